"""What a network costs, as a sum over its blocks: multiplications, parameters, bytes. Torch-free.

`resnet_dist.compression.latency.table` has the cost in milliseconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_dist.model.layers import Layer, Site, block_layers, end_layers, layers, sites
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths

BYTES_A_PARAMETER = 4


class CostModel(Protocol):
    """A cost that is at least 0 and the sum of those of a network's ends and of its blocks."""

    def cost(self, widths: Widths) -> float:
        """Of a whole network."""
        ...

    def ends(self, stem: int, last: int) -> float:
        """Of all but the blocks, where the stem has `stem` channels and layer4 gives `last`."""
        ...

    def block(self, site: Site, inner: NDArray[np.int64]) -> NDArray[np.float64]:
        """[n], of a block with each of the inner widths [n, 1], or [n, 2] of a bottleneck."""
        ...


@dataclass(frozen=True)
class CountCosts:
    """A cost that is a sum over layers."""

    structure: Structure
    """Architecture and gates; widths are given with each question."""
    classes: int
    size: tuple[int, int]
    """Height and width of an image."""
    count: Callable[[Layer], float]
    """Of a layer."""
    constant: float = 0.0

    def cost(self, widths: Widths) -> float:
        """As in `CostModel`."""
        found = layers(replace(self.structure, widths=widths), self.classes, self.size)
        return self.constant + sum(map(self.count, found))

    def ends(self, stem: int, last: int) -> float:
        """As in `CostModel`."""
        return self.constant + sum(map(self.count, end_layers(stem, last, self.classes, self.size)))

    def block(self, site: Site, inner: NDArray[np.int64]) -> NDArray[np.float64]:
        """As in `CostModel`."""
        rows = (tuple(int(width) for width in row) for row in inner)
        return np.array([float(sum(map(self.count, block_layers(self.structure, site, row)))) for row in rows])


def mac_costs(structure: Structure, classes: int, size: tuple[int, int]) -> CountCosts:
    """Multiplications of one image of `size` (height, width)."""
    return CountCosts(structure, classes, size, lambda layer: layer.macs)


def parameter_costs(structure: Structure, classes: int) -> CountCosts:
    """Trained numbers, those of BatchNorm included."""
    return CountCosts(structure, classes, (224, 224), lambda layer: layer.parameters)


def byte_costs(structure: Structure, classes: int, whole_bytes: int | None = None) -> CountCosts:
    """Bytes of a file with weights in fp32 and folded BatchNorm.

    `whole_bytes`: the size of the file of `structure` with its own widths; what it has beyond its weights is taken for
    the same at all widths. None: weights alone.
    """
    weights = CountCosts(structure, classes, (224, 224), _folded_bytes)
    own = weights.cost(structure.layer_widths)
    return weights if whole_bytes is None else replace(weights, constant=max(0.0, whole_bytes - own))


def summed_cost(costs: CostModel, structure: Structure, widths: Widths, size: tuple[int, int]) -> float:
    """The cost of a whole network as the sum that `CostModel` says it is."""
    blocks = sites(replace(structure, widths=widths), size)
    each = (float(costs.block(site, np.array([inner], dtype=np.int64))[0]) for site, inner in blocks)
    return costs.ends(widths.stem, widths.stages[-1].channels) + sum(each)


def _folded_bytes(layer: Layer) -> float:
    """Its weights and one bias an output."""
    weights = layer.inputs * layer.outputs * layer.kernel**2 // layer.groups
    return BYTES_A_PARAMETER * (weights + layer.outputs)
