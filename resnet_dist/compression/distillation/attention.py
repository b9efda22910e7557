"""Attention maps: where in the image a stage's output is large, whatever its number of channels (arXiv:1612.03928)."""

import torch
from torch.nn import functional

STAGES = ("layer1", "layer2", "layer3", "layer4")
"""The stages behind which maps are taken, in the order in which they are computed."""


def attention_map(features: torch.Tensor) -> torch.Tensor:
    """float32 [B, h * w] of L2 norm 1 a sample: the mean of squares over the channels of features [B, C, h, w].

    A sample whose features are all zero has a map of zeros.
    """
    return functional.normalize(features.float().square().mean(1).flatten(1), dim=1)


def map_sizes(height: int, width: int) -> dict[str, int]:
    """Numbers in the map of each stage for images of height x width pixels; the same for every ResNet."""
    # The stem halves twice and each stage but the first once, every time rounding up.
    sides = [(-(-height // 2**halvings), -(-width // 2**halvings)) for halvings in (2, 3, 4, 5)]
    return {stage: high * wide for stage, (high, wide) in zip(STAGES, sides, strict=True)}
