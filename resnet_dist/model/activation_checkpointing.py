"""Memory for time: the backward pass computes the inside of each residual block again instead of keeping it.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from resnet_dist.model.trunk import Suffix


def checkpoint_blocks(suffix: Suffix) -> None:
    """Keep only the input of each block of the trained stages, from now on and in training mode only.

    Outputs and gradients are the same to the bit, and no name changes. A block's BatchNorm layers see a microbatch
    twice: running statistics are right where they are replaced rather than averaged (momentum 1) and read after the
    backward pass, as `resnet_dist.training.batch_norm` does, which takes back the layers' counters too.
    """
    suffix.through = _recomputing


def _recomputing(stage: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """A stage's output; its blocks run again in the backward pass."""
    if not (isinstance(stage, nn.Sequential) and stage.training and torch.is_grad_enabled()):
        return stage(features)
    for block in stage:
        # Blocks draw nothing at random and their shapes depend on nothing else, so neither is saved or compared.
        features = checkpoint(  # pyright: ignore[reportAssignmentType]
            block, features, use_reentrant=False, preserve_rng_state=False, determinism_check="none"
        )
    return features
