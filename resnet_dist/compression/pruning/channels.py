"""The groups of channels of a network that are kept or cut together, with a number for each channel. Torch-free."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from resnet_dist.model.architectures import SHAPES, Arch
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Block, StageWidths, Widths

Number = TypeVar("Number", np.float64, np.int64)


@dataclass(frozen=True, eq=False)
class Channels(Generic[Number]):
    """One array [width] for each group: float64 scores, or int64 positions of channels that stay, ascending."""

    streams: tuple[NDArray[Number], NDArray[Number], NDArray[Number], NDArray[Number]]
    """Of the residual sums of layer1 .. layer4: all that a stage's blocks add up has the same channels."""
    inner: dict[str, tuple[NDArray[Number], ...]]
    """By block, such as layer1.0: outputs of conv1, and in a bottleneck of conv2. A block that is not here is cut."""
    own_stem: NDArray[Number] | None
    """Of the stem. None in ResNet-18 and 34, where layer1 adds to what the stem gives: the two are one group."""

    @property
    def stem(self) -> NDArray[Number]:
        """Also where the stem is in one group with layer1."""
        return self.streams[0] if self.own_stem is None else self.own_stem

    def widths(self, arch: Arch) -> Widths:
        """How many channels each group has. Raises ValueError for groups that `arch` cannot have."""
        one, two, three, four = (
            StageWidths(len(stream), tuple(self._width(name) for name in names))
            for stream, names in zip(self.streams, _block_names(Widths.of(arch)), strict=True)
        )
        widths = Widths(len(self.stem), (one, two, three, four))
        known = {name for names in _block_names(widths) for name in names}
        if unknown := self.inner.keys() - known:
            raise ValueError(f"channels of {sorted(unknown)[0]}, which {arch} does not have")
        widths.check(arch)
        return widths

    def _width(self, block: str) -> Block:
        return tuple(map(len, self.inner[block])) if block in self.inner else None


def every_channel(structure: Structure) -> Channels[np.int64]:
    """The positions of all channels of all blocks."""
    return _of_groups(structure, lambda width, _: np.arange(width))


def summed_over_norms(structure: Structure, of_norm: Callable[[str], NDArray[np.float64]]) -> Channels[np.float64]:
    """Scores from those of BatchNorm layers: a group's score is the sum over all layers that write to the group.

    `of_norm` gives float64 [width] of a layer by its name, such as bn1 or layer1.0.downsample.1.
    """

    def sum_(width: int, norms: Iterable[str]) -> NDArray[np.float64]:
        total = np.zeros(width)
        for norm in norms:
            total += of_norm(norm)
        return total

    return _of_groups(structure, sum_)


def identity_blocks(structure: Structure) -> Iterator[tuple[str, str]]:
    """Name of each block that can be left out, and of the BatchNorm layer that ends its residual branch."""
    for place, (names, stage) in enumerate(_stages(structure.layer_widths)):
        for number, inner in stage.kept:
            if SHAPES[structure.arch].is_identity(place, number):
                yield names[number], _last_norm(names[number], inner)


def highest(scores: Channels[np.float64], widths: Widths) -> Channels[np.int64]:
    """Positions of the channels with the highest scores, as many as `widths` wants; of equal ones the first.

    Blocks that `widths` leaves out are left out. Raises ValueError for more channels or blocks than there are, and for
    scores that are not finite.
    """
    if scores.own_stem is None and widths.stem != widths.stages[0].channels:
        raise ValueError(
            f"a stem of {widths.stem} channels and a layer1 of {widths.stages[0].channels}, whose scores are one group"
        )
    one, two, three, four = (
        _highest(f"layer{place}", stream, stage.channels)
        for place, (stream, stage) in enumerate(zip(scores.streams, widths.stages, strict=True), start=1)
    )
    inner: dict[str, tuple[NDArray[np.int64], ...]] = {}
    for names, stage in _stages(widths):
        for number, wanted in stage.kept:
            name = names[number]
            if len(scores.inner.get(name, ())) != len(wanted):
                raise ValueError(f"{name} with {len(wanted)} inner widths, of which there are no scores")
            pairs = zip(scores.inner[name], wanted, strict=True)
            inner[name] = tuple(_highest(name, group, width) for group, width in pairs)
    stem = None if scores.own_stem is None else _highest("the stem", scores.own_stem, widths.stem)
    return Channels((one, two, three, four), inner, stem)


def _highest(where: str, scores: NDArray[np.float64], width: int) -> NDArray[np.int64]:
    if not 1 <= width <= len(scores):
        raise ValueError(f"a width of {width} for {where}, which has {len(scores)} channels; it is in 1..{len(scores)}")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores of {where} are not finite")
    return np.sort(np.argsort(-scores, kind="stable")[:width]).astype(np.int64)


def _of_groups(structure: Structure, make: Callable[[int, Iterable[str]], NDArray[Number]]) -> Channels[Number]:
    """`make` gives a group's array from its width and the names of the BatchNorm layers that write to it."""
    shape, widths = SHAPES[structure.arch], structure.layer_widths
    streams: list[NDArray[Number]] = []
    inner: dict[str, tuple[NDArray[Number], ...]] = {}
    for place, (names, stage) in enumerate(_stages(widths)):
        writers = ["bn1"] if place == 0 and shape.expansion == 1 else []
        for number, block in stage.kept:
            name = names[number]
            inner[name] = tuple(make(width, [f"{name}.bn{conv}"]) for conv, width in enumerate(block, start=1))
            writers.append(_last_norm(name, block))
            if not shape.is_identity(place, number):
                writers.append(f"{name}.downsample.1")
        streams.append(make(stage.channels, writers))
    one, two, three, four = streams
    return Channels((one, two, three, four), inner, None if shape.expansion == 1 else make(widths.stem, ["bn1"]))


def _last_norm(block: str, inner: tuple[int, ...]) -> str:
    return f"{block}.bn{len(inner) + 1}"


def _block_names(widths: Widths) -> list[list[str]]:
    return [
        [f"layer{place}.{number}" for number in range(len(stage.blocks))]
        for place, stage in enumerate(widths.stages, start=1)
    ]


def _stages(widths: Widths) -> Iterator[tuple[list[str], StageWidths]]:
    """Each stage with the names of its blocks, those that are left out included."""
    return zip(_block_names(widths), widths.stages, strict=True)
