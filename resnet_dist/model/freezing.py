"""Which stages are frozen, and what that leaves to train."""

from dataclasses import dataclass

from torch import nn

from resnet_dist.model.resnet import STAGES, ResNetClassifier

_STEM = ("conv1", "bn1", "relu", "maxpool")


@dataclass(frozen=True)
class StageSize:
    """A row of the table of stages."""

    stage: str
    parameters: int
    trainable: int


def stage_of(name: str) -> str:
    """The stage that a parameter, buffer or module of a ResNet belongs to, by its torchvision name."""
    first = name.split(".", 1)[0]
    if first in _STEM:
        return "stem"
    return "head" if first == "fc" else first


def frozen_stages(freeze_depth: int) -> tuple[str, ...]:
    """The frozen prefix: () at 0, the stem at 1, all but the head at 5. Raises ValueError outside of 0..5."""
    if not 0 <= freeze_depth < len(STAGES):
        raise ValueError(f"freeze_depth={freeze_depth} is not in 0..5; 5 freezes all but the head")
    return STAGES[:freeze_depth]


def trainable_parameters(model: ResNetClassifier, freeze_depth: int) -> dict[str, nn.Parameter]:
    """The parameters outside of the frozen prefix, by name."""
    frozen = frozen_stages(freeze_depth)
    return {name: parameter for name, parameter in model.named_parameters() if stage_of(name) not in frozen}


def stage_sizes(model: ResNetClassifier, freeze_depth: int) -> list[StageSize]:
    """Parameters of each stage, and how many of them are trained."""
    frozen = frozen_stages(freeze_depth)
    totals = dict.fromkeys(STAGES, 0)
    for name, parameter in model.named_parameters():
        totals[stage_of(name)] += parameter.numel()
    return [StageSize(stage, total, 0 if stage in frozen else total) for stage, total in totals.items()]
