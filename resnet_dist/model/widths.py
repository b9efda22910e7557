"""How many channels each layer of a ResNet has, and which blocks are left out: a value, read from text or JSON.

Torch-free. A text has five words, of the stem and of layer1 .. layer4: "64 256:64/64,48/32,- 512:... ...". A stage's
word has the width of its residual sum, then of each block the outputs of its inner convolutions; "-" is a block that
is left out. A single number such as "0.75" multiplies every width of the architecture.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from resnet_dist.model.architectures import PLANES, SHAPES, Arch

MULTIPLE = 16
"""Widths that are made here are multiples of it, as kernels for 8-bit numbers want them."""
_STAGES = ("layer1", "layer2", "layer3", "layer4")

Block = tuple[int, ...] | None
"""Outputs of conv1, and in a bottleneck of conv2; None: the block is left out."""


@dataclass(frozen=True)
class StageWidths:
    """One of layer1 .. layer4."""

    channels: int
    """What each block gives."""
    blocks: tuple[Block, ...]
    """In the order of the architecture, which also names them."""

    @property
    def kept(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Number and inner widths of each block that is there."""
        return ((number, block) for number, block in enumerate(self.blocks) if block is not None)


@dataclass(frozen=True)
class Widths:
    """Of a whole network; the head takes what layer4 gives."""

    stem: int
    stages: tuple[StageWidths, StageWidths, StageWidths, StageWidths]

    @classmethod
    def of(cls, arch: Arch, factor: float = 1.0) -> Self:
        """The architecture's own, each times `factor` and rounded to a multiple of 16, at least 16.

        Raises ValueError for another factor than 1 where convolutions are grouped.
        """
        shape = SHAPES[arch]
        if factor != 1.0 and shape.groups > 1:
            raise ValueError(_grouped(arch))
        if not 0.0 < factor <= 1.0:
            raise ValueError(f"a factor of widths is in (0, 1], not {factor:g}")

        def scaled(width: int) -> int:
            return width if factor == 1.0 else max(MULTIPLE, round(width * factor / MULTIPLE) * MULTIPLE)

        one, two, three, four = (
            StageWidths(scaled(shape.channels(stage)), (tuple(map(scaled, shape.inner(stage))),) * blocks)
            for stage, blocks in enumerate(shape.blocks)
        )
        return cls(scaled(PLANES[0]), (one, two, three, four))

    @classmethod
    def parse(cls, text: str, arch: Arch) -> Self:
        """From text. Raises ValueError, which says what is wrong, for any that `arch` cannot have."""
        words = text.split()
        try:
            if len(words) == 1 and "." in words[0]:
                return cls.of(arch, float(words[0]))
            if len(words) != 1 + len(_STAGES) or not all(re.fullmatch(r"[0-9:/,-]{1,2000}", word) for word in words):
                raise ValueError("it is a factor such as 0.75, or five words: of the stem and of layer1 to layer4")
            one, two, three, four = (_stage(word) for word in words[1:])
            found = cls(_width(words[0]), (one, two, three, four))
        except ValueError as error:
            raise ValueError(f"widths {text[:200]!r}: {error}") from None
        found.check(arch)
        return found

    @classmethod
    def from_json(cls, value: Any, arch: Arch) -> Self:
        """From what `to_json` gave. Raises ValueError for anything else."""
        try:
            if set(value) != {"stem", *_STAGES}:
                raise ValueError(f"it has {sorted(value)}, not stem and {', '.join(_STAGES)}")
            one, two, three, four = (
                StageWidths(
                    _whole(value[name]["channels"]),
                    tuple(None if block is None else tuple(map(_whole, block)) for block in value[name]["blocks"]),
                )
                for name in _STAGES
            )
            found = cls(_whole(value["stem"]), (one, two, three, four))
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"widths that are none ({error})") from None
        found.check(arch)
        return found

    @property
    def text(self) -> str:
        """What `parse` reads."""
        return " ".join([str(self.stem), *map(_word, self.stages)])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        stages = {
            name: {"channels": stage.channels, "blocks": [None if b is None else list(b) for b in stage.blocks]}
            for name, stage in zip(_STAGES, self.stages, strict=True)
        }
        return {"stem": self.stem, **stages}

    def with_stage(self, place: int, stage: StageWidths) -> Self:
        """The same but for one of the four stages."""
        one, two, three, four = (stage if number == place else each for number, each in enumerate(self.stages))
        return replace(self, stages=(one, two, three, four))

    def check(self, arch: Arch) -> None:
        """Raises ValueError unless `arch` can have these widths: at most its own, and shortcuts that fit."""
        shape, own = SHAPES[arch], Widths.of(arch)
        if shape.expansion == 1 and self.stem != self.stages[0].channels:
            raise ValueError(
                f"the stem has {self.stem} channels and layer1 {self.stages[0].channels}; {arch} adds them, so they "
                "are equal"
            )
        _check_width("the stem", self.stem, own.stem)
        for place, (name, stage, whole) in enumerate(zip(_STAGES, self.stages, own.stages, strict=True)):
            if len(stage.blocks) != len(whole.blocks):
                raise ValueError(f"{name} has {len(stage.blocks)} blocks; {arch} has {len(whole.blocks)} there")
            _check_width(name, stage.channels, whole.channels)
            for number, (block, inner) in enumerate(zip(stage.blocks, whole.blocks, strict=True)):
                if block is None:
                    if not shape.is_identity(place, number):
                        raise ValueError(f"{name}.{number} changes shape and cannot be left out")
                    continue
                if inner is None or len(block) != len(inner):
                    raise ValueError(f"{name}.{number} of {arch} has {len(inner or ())} inner widths, not {len(block)}")
                for width, most in zip(block, inner, strict=True):
                    _check_width(f"{name}.{number}", width, most)
        if shape.groups > 1 and self != replace(own, stages=tuple(map(_undropped, self.stages, own.stages))):
            raise ValueError(_grouped(arch))


def _undropped(stage: StageWidths, own: StageWidths) -> StageWidths:
    """The own widths of the blocks that are left."""
    pairs = zip(stage.blocks, own.blocks, strict=True)
    return StageWidths(own.channels, tuple(None if block is None else whole for block, whole in pairs))


def _grouped(arch: Arch) -> str:
    return f"the grouped convolutions of {arch} cannot change their widths; its blocks can be left out"


def _check_width(where: str, width: int, most: int) -> None:
    if not 1 <= width <= most:
        raise ValueError(f"{where} has a width of {width}; it is in 1..{most}")


def _word(stage: StageWidths) -> str:
    blocks = ("-" if block is None else "/".join(map(str, block)) for block in stage.blocks)
    return f"{stage.channels}:{','.join(blocks)}"


def _stage(word: str) -> StageWidths:
    channels, _, blocks = word.partition(":")
    found = tuple(None if block == "-" else tuple(map(_width, block.split("/"))) for block in blocks.split(","))
    return StageWidths(_width(channels), found)


def _width(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}", text):
        raise ValueError(f"{text!r} is no width")
    return int(text)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value
