"""How large a checkpoint is, before there is one. Torch-free."""

from resnet_dist.config import OptimizerConfig
from resnet_dist.model.config import FREEZABLE, FreezingConfig, ModelConfig, freezing_phases
from resnet_dist.model.layers import stage_parameters

_FLOAT_BYTES = 4


def checkpoint_bytes(
    model: ModelConfig, freezing: FreezingConfig, optimizer: OptimizerConfig, epochs: int, classes: int
) -> int:
    """Of the largest one of a training: the weights, and of what is trained a raw copy and the optimizer's moments.

    BatchNorm's statistics and the small files, less than 1 % together, are left out.
    """
    counts = stage_parameters(model.structure, classes)
    moments = 2 if optimizer.kind == "adamw" else 1 if optimizer.momentum else 0
    trained = max(
        sum(counts[stage] for stage, policy in zip(FREEZABLE, policies, strict=True) if policy != "frozen")
        for first, policies in freezing_phases(freezing)
        if first < epochs
    )
    return _FLOAT_BYTES * (sum(counts.values()) + (trained + counts["head"]) * (1 + moments))
