"""The architectures, and what tells them apart, as numbers. Torch-free."""

from dataclasses import dataclass
from typing import Literal, get_args

Arch = Literal[
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]
ARCHS: tuple[str, ...] = get_args(Arch)

PLANES = (64, 128, 256, 512)
"""By which torchvision derives the widths of layer1 .. layer4."""


@dataclass(frozen=True)
class Shape:
    """An architecture (torchvision/models/resnet.py)."""

    blocks: tuple[int, int, int, int]
    expansion: int = 4
    """1: blocks of two convolutions; 4: bottlenecks, of three."""
    groups: int = 1
    width_per_group: int = 64

    def channels(self, stage: int) -> int:
        """What each block of a stage 0..3 gives: the width of its residual sum."""
        return PLANES[stage] * self.expansion

    def inner(self, stage: int) -> tuple[int, ...]:
        """Outputs of the convolutions inside a block: of conv1, and in a bottleneck of conv2."""
        width = PLANES[stage] * self.width_per_group // 64 * self.groups
        return (width,) if self.expansion == 1 else (width, width)

    def is_identity(self, stage: int, block: int) -> bool:
        """Whether a block's shortcut has no convolution, so that the network works without the block."""
        return block > 0 or (stage == 0 and self.expansion == 1)


SHAPES: dict[Arch, Shape] = {
    "resnet18": Shape((2, 2, 2, 2), expansion=1),
    "resnet34": Shape((3, 4, 6, 3), expansion=1),
    "resnet50": Shape((3, 4, 6, 3)),
    "resnet101": Shape((3, 4, 23, 3)),
    "resnet152": Shape((3, 8, 36, 3)),
    "resnext50_32x4d": Shape((3, 4, 6, 3), groups=32, width_per_group=4),
    "resnext101_32x8d": Shape((3, 4, 23, 3), groups=32, width_per_group=8),
    "resnext101_64x4d": Shape((3, 4, 23, 3), groups=64, width_per_group=4),
    "wide_resnet50_2": Shape((3, 4, 6, 3), width_per_group=128),
    "wide_resnet101_2": Shape((3, 4, 23, 3), width_per_group=128),
}
