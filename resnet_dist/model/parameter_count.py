"""How many parameters a network has, stage by stage, as a formula: what must be known before torch is imported."""

from dataclasses import dataclass

from resnet_dist.model.config import FREEZABLE, Arch

_PLANES = (64, 128, 256, 512)
_REDUCTION, _LEAST_HIDDEN = 16, 8
"""Of the gates: `resnet_dist.model.squeeze_excite`."""


@dataclass(frozen=True)
class _Shape:
    """What tells architectures apart."""

    blocks: tuple[int, int, int, int]
    expansion: int = 4
    """1: blocks of two convolutions; 4: of three."""
    groups: int = 1
    width_per_group: int = 64


_SHAPES: dict[Arch, _Shape] = {
    "resnet18": _Shape((2, 2, 2, 2), expansion=1),
    "resnet34": _Shape((3, 4, 6, 3), expansion=1),
    "resnet50": _Shape((3, 4, 6, 3)),
    "resnet101": _Shape((3, 4, 23, 3)),
    "resnet152": _Shape((3, 8, 36, 3)),
    "resnext50_32x4d": _Shape((3, 4, 6, 3), groups=32, width_per_group=4),
    "resnext101_32x8d": _Shape((3, 4, 23, 3), groups=32, width_per_group=8),
    "resnext101_64x4d": _Shape((3, 4, 23, 3), groups=64, width_per_group=4),
    "wide_resnet50_2": _Shape((3, 4, 6, 3), width_per_group=128),
    "wide_resnet101_2": _Shape((3, 4, 23, 3), width_per_group=128),
}


def stage_parameters(arch: Arch, classes: int, *, squeeze_excite: bool = False) -> dict[str, int]:
    """Parameters of each stage, from the stem to the head."""
    shape = _SHAPES[arch]
    counts = [3 * 64 * 49 + 2 * 64]
    channels = 64
    for planes, blocks in zip(_PLANES, shape.blocks, strict=True):
        count = 0
        for number in range(blocks):
            out = planes * shape.expansion
            has_shortcut = number == 0 and (channels != out or planes != _PLANES[0])
            count += _block(shape, channels, planes) + has_shortcut * (channels * out + 2 * out)
            count += squeeze_excite * _gate(out)
            channels = out
        counts.append(count)
    counts.append((channels + 1) * classes)
    return dict(zip((*FREEZABLE, "head"), counts, strict=True))


def _block(shape: _Shape, channels: int, planes: int) -> int:
    """Its convolutions, each with a BatchNorm, without the shortcut."""
    if shape.expansion == 1:
        return 9 * channels * planes + 9 * planes * planes + 4 * planes
    width, out = planes * shape.width_per_group // 64 * shape.groups, planes * shape.expansion
    return channels * width + 9 * width * width // shape.groups + width * out + 4 * width + 2 * out


def _gate(channels: int) -> int:
    hidden = max(_LEAST_HIDDEN, channels // _REDUCTION)
    return 2 * channels * hidden + hidden + channels
