"""What pruning may choose from: inner widths and presence of each block, and channels of each stage. Torch-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_dist.model.architectures import SHAPES
from resnet_dist.model.layers import Site, sites
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import MULTIPLE, StageWidths, Widths

Scope = Literal["inner", "blocks", "all"]
"""inner: widths inside blocks; blocks: which identity blocks stay; all: both, and the channels of stem and stages."""

LEAST_WIDTH = 16
_STAGE_FACTORS = (1.0, 7 / 8, 3 / 4, 5 / 8, 1 / 2)
"""Shares of a stage's channels that are tried; each takes all others of the other stages."""


class Scores(Protocol):
    """How much each channel matters: float64, at least 0, 1-D in the order of the channels."""

    @property
    def stem(self) -> NDArray[np.float64]:
        """Outputs of conv1. In networks of basic blocks the same as `streams[0]`, which alone is read there."""
        ...

    @property
    def streams(self) -> Sequence[NDArray[np.float64]]:
        """Four: the residual sums of layer1 .. layer4."""
        ...

    @property
    def inner(self) -> Mapping[str, Sequence[NDArray[np.float64]]]:
        """By block, as "layer1.0": outputs of conv1, and of conv2 in a bottleneck."""
        ...

    @property
    def branches(self) -> Mapping[str, float]:
        """By identity block, as "layer1.1": of everything that it adds."""
        ...


@dataclass(frozen=True)
class Choices:
    """What may be chosen. Raises ValueError for bounds that are none."""

    scope: Scope = "inner"
    multiple: int = MULTIPLE
    """Widths that are chosen are multiples of it, or stay."""
    floor: float = 0.25
    """Least share of the width that a layer had before all pruning; no width falls below 16 or `multiple`."""

    def __post_init__(self) -> None:
        if self.multiple < 1:
            raise ValueError(f"widths are multiples of {self.multiple}; a multiple is at least 1, such as 8 or 16")
        if not 0.0 < self.floor <= 1.0:
            raise ValueError(f"the floor {self.floor:g} is a share of present widths in (0, 1]; the default is 0.25")

    def least(self, width: int, before: int) -> int:
        """The least that a width may become which was `before` all pruning: a multiple, unless it is the width."""
        least = max(LEAST_WIDTH, self.multiple, self.floor * before)
        return min(width, int(-(-least // self.multiple)) * self.multiple)

    def widths(self, width: int, before: int) -> list[int]:
        """What a width may become that was `before` all pruning, ascending; itself is the last."""
        return [*range(self.least(width, before), width, self.multiple), width]


@dataclass(frozen=True)
class WidthSpace:
    """The networks that pruning may choose.

    Raises ValueError where an architecture cannot have them: grouped convolutions keep their widths.
    """

    structure: Structure
    """As it is now."""
    size: tuple[int, int]
    """Height and width of an image."""
    choices: Choices = Choices()
    origin: Structure | None = None
    """As it was before all pruning, of which floors are shares; None: as it is now."""

    def __post_init__(self) -> None:
        arch = self.structure.arch
        if SHAPES[arch].groups > 1 and self.choices.scope != "blocks":
            raise ValueError(
                f"scope {self.choices.scope!r} changes widths, and the grouped convolutions of {arch} cannot change "
                "theirs; use scope 'blocks'"
            )

    @cached_property
    def coarse(self) -> list["Coarse"]:
        """Channels of the stem and of the stages; the present ones come first."""
        now, before = self.structure.layer_widths, self._before
        channels = [stage.channels for stage in now.stages]
        if self.choices.scope != "all":
            return [Coarse(now.stem, channels[0], channels[1], channels[2], channels[3])]
        shares = [self._shares(width, own.channels) for width, own in zip(channels, before.stages, strict=True)]
        ties_stem = SHAPES[self.structure.arch].expansion == 1
        found = list[Coarse]()
        for factors in product(*shares):
            one, two, three, four = (share[factor] for share, factor in zip(shares, factors, strict=True))
            stem = one if ties_stem else self._scaled(now.stem, before.stem, factors[0])
            found.append(Coarse(stem, one, two, three, four))
        return found

    @property
    def _before(self) -> Widths:
        return (self.origin or self.structure).layer_widths

    def _shares(self, width: int, before: int) -> dict[float, int]:
        """A width by the factor that gives it, without those that give the same."""
        by_width = {self._scaled(width, before, factor): factor for factor in reversed(_STAGE_FACTORS)}
        return {factor: each for each, factor in sorted(by_width.items(), reverse=True)}

    def _scaled(self, width: int, before: int, factor: float) -> int:
        multiple = self.choices.multiple
        wanted = round(width * factor / multiple) * multiple
        return width if factor == 1.0 else min(width, max(self.choices.least(width, before), wanted))

    @cached_property
    def blocks(self) -> list["BlockOptions"]:
        """Of each block that is there."""
        return [self._options(site, inner) for site, inner in sites(self.structure, self.size)]

    def _options(self, site: Site, inner: tuple[int, ...]) -> "BlockOptions":
        scope = self.choices.scope
        is_identity = SHAPES[self.structure.arch].is_identity(site.stage, site.number)
        before = self._before.stages[site.stage].blocks[site.number] or inner
        axes = [
            [width] if scope == "blocks" else self.choices.widths(width, own)
            for width, own in zip(inner, before, strict=True)
        ]
        widths = np.array(list(product(*axes)), dtype=np.int64)
        return BlockOptions(site.stage, site.number, site.name, widths, scope != "inner" and is_identity)

    def at(self, coarse: "Coarse", inner: Sequence[tuple[int, ...] | None]) -> Widths:
        """With these channels, and of each block of `blocks` these inner widths; None: it is left out."""
        chosen = {(each.stage, each.number): widths for each, widths in zip(self.blocks, inner, strict=True)}
        one, two, three, four = (
            StageWidths(channels, tuple(chosen.get((place, number)) for number in range(len(stage.blocks))))
            for place, (stage, channels) in enumerate(
                zip(self.structure.layer_widths.stages, coarse.channels, strict=True)
            )
        )
        return Widths(coarse.stem, (one, two, three, four))


@dataclass(frozen=True)
class Coarse:
    """Channels of the stem and of the residual sums of layer1 .. layer4."""

    stem: int
    one: int
    two: int
    three: int
    four: int

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Of layer1 .. layer4."""
        return self.one, self.two, self.three, self.four


@dataclass(frozen=True)
class BlockOptions:
    """Of one block."""

    stage: int
    number: int
    name: str
    inner: NDArray[np.int64]
    """[n, 1], or [n, 2] of a bottleneck; the last row has the present widths."""
    may_go: bool
    """Whether the block may be left out, which is then one more option, the last."""

    def taken(self, place: int) -> tuple[int, ...] | None:
        """The inner widths of an option; None: the block is left out."""
        return tuple(int(width) for width in self.inner[place]) if place < len(self.inner) else None
