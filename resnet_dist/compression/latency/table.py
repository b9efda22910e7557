"""Milliseconds of a network's parts by their widths, measured in one engine on this machine. Torch-free.

A network's time is the sum of its parts' times and of one call's overhead, times a factor that the whole network's
measured time gives. Open `measure_table` first; `LatencyTable` is a `resnet_dist.compression.planning.costs.CostModel`.
"""

import json
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from resnet_dist.compression.latency.interpolation import Grid
from resnet_dist.compression.latency.timed_graphs import Fingerprint
from resnet_dist.compression.planning.costs import summed_cost
from resnet_dist.errors import RunError
from resnet_dist.model.architectures import SHAPES, Arch
from resnet_dist.model.layers import Site
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from resnet_dist.plain_json import json_object

SCHEMA = 1
_LEAST_SHARE = 0.02
"""Of the time with the architecture's own widths: what is extrapolated never falls below it."""
_Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


@dataclass(frozen=True)
class BlockTimes:
    """Of a block, by its widths."""

    stage: int
    """0..3."""
    is_identity: bool
    """Whether its shortcut has no convolution."""
    inner: Grid
    """By inner widths, where channels are the architecture's own."""
    channels: Grid | None
    """By inputs, outputs and inner widths, of an identity block by outputs and inner widths, at the ends of each axis.
    None where channels cannot change."""

    def at(self, site: Site, inner: NDArray[np.int64]) -> NDArray[np.float64]:
        """[n] of inner widths [n, axes] between these channels.

        What other channels take less is interpolated, not their time: by the number of multiplications it is linear
        in each width, whatever steps the time itself has.
        """
        found = self.inner.at(inner)
        if self.channels is not None:
            ends = np.array([axis[-1] for axis in self.channels.axes[: -inner.shape[1]]])
            here = np.array([site.outputs] if self.is_identity else [site.inputs, site.outputs])
            own, other = (self.channels.at(_beside(each, inner)) for each in (ends, here))
            found = found - (own - other)
        return np.maximum(found, _LEAST_SHARE * max(self.inner.milliseconds))


@dataclass(frozen=True)
class LatencyTable:
    """Of one architecture on one machine, for one image at a time."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    schema: Literal[1]
    arch: Arch
    squeeze_excite: bool
    classes: Annotated[int, Field(ge=1)]
    size: tuple[int, int]
    """Height and width of an image."""
    fingerprint: Fingerprint
    seconds: _NotNegative
    """That measuring took."""
    busy_cores: _NotNegative
    """That other work took as measuring began."""
    overhead: _NotNegative
    """Milliseconds of a call that computes nothing."""
    whole: _Positive
    """Milliseconds of the network with the architecture's own widths."""
    scale: _Positive
    """What the sum of the parts is multiplied with, so that it is `whole` there."""
    stem: Grid
    """By its channels."""
    head: Grid
    """By the channels of layer4."""
    blocks: tuple[BlockTimes, ...]

    @property
    def structure(self) -> Structure:
        """With the architecture's own widths."""
        return Structure(self.arch, self.squeeze_excite)

    def cost(self, widths: Widths) -> float:
        """Milliseconds of a network with these widths."""
        return summed_cost(self, self.structure, widths, self.size)

    def ends(self, stem: int, last: int) -> float:
        """Milliseconds of call, stem and head."""
        pairs = ((self.stem, stem), (self.head, last))
        parts = (max(0.0, float(grid.at(np.array([[width]]))[0])) for grid, width in pairs)
        return self.scale * (self.overhead + sum(parts))

    def block(self, site: Site, inner: NDArray[np.int64]) -> NDArray[np.float64]:
        """[n] milliseconds of a block with each of the inner widths [n, axes]."""
        is_identity = SHAPES[self.arch].is_identity(site.stage, site.number)
        times = next(each for each in self.blocks if (each.stage, each.is_identity) == (site.stage, is_identity))
        return self.scale * times.at(site, inner)

    def to_text(self) -> str:
        """JSON, which `load` reads."""
        return json.dumps(_ADAPTER.dump_python(self, mode="json"), indent=1) + "\n"

    @staticmethod
    def load(text: str | bytes, fingerprint: Fingerprint, place: str = "the latency table") -> "LatencyTable":
        """From what `to_text` gave on this machine.

        Raises RunError, which names the `place`, for anything else and for the table of another machine.
        """
        data = text.encode() if isinstance(text, str) else text
        value = json_object(data, place, _REMEDY)
        try:
            table = _ADAPTER.validate_python(value)
            table.check_parts()
        except (ValidationError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise RunError(f"{place} is none of schema {SCHEMA} ({reason}); {_REMEDY}") from error
        if table.fingerprint != fingerprint:
            raise RunError(
                f"{place} was measured with {table.fingerprint.text}, and this is {fingerprint.text}; {_REMEDY}"
            )
        return table

    def check_parts(self) -> None:
        """Raises ValueError unless each distinct block of the architecture is there, with as many axes as it has."""
        shape = SHAPES[self.arch]
        wanted = {(stage, shape.is_identity(stage, n)) for stage in range(4) for n in range(shape.blocks[stage])}
        found = [(each.stage, each.is_identity) for each in self.blocks]
        if sorted(found) != sorted(wanted):
            raise ValueError(f"blocks {sorted(found)}; {self.arch} has {sorted(wanted)}")
        for each in self.blocks:
            axes = len(shape.inner(each.stage))
            beside = 1 if each.is_identity else 2
            channels = None if each.channels is None else len(each.channels.axes)
            if len(each.inner.axes) != axes or channels not in (None, axes + beside):
                raise ValueError(f"a block of layer{each.stage + 1} has other axes than its widths")
        if len(self.stem.axes) != 1 or len(self.head.axes) != 1:
            raise ValueError("stem and head have one axis each")


_REMEDY = "measure it again on this machine"
_ADAPTER: TypeAdapter[LatencyTable] = TypeAdapter(LatencyTable)


def _beside(channels: NDArray[np.int64], inner: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same channels beside each of the inner widths."""
    return np.concatenate([np.broadcast_to(channels, (len(inner), len(channels))), inner], axis=1)
