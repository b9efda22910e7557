"""A function of a few numbers, known on a grid. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """Milliseconds at each combination of widths. Raises ValueError unless axes ascend and all values are there."""

    axes: tuple[tuple[int, ...], ...]
    """Each has at least one width, ascending."""
    milliseconds: tuple[float, ...]
    """In the order in which `itertools.product` combines the axes; finite."""

    def __post_init__(self) -> None:
        ascends = all(axis and all(low < high for low, high in pairwise(axis)) for axis in self.axes)
        count = prod(len(axis) for axis in self.axes)
        if not ascends or len(self.milliseconds) != count or not np.isfinite(self.milliseconds).all():
            raise ValueError(
                f"a grid over {self.axes} has {len(self.milliseconds)} values; axes ascend, and each of the {count} "
                "combinations has a finite one"
            )

    def at(self, points: NDArray[np.int64]) -> NDArray[np.float64]:
        """[n], multilinear between the grid's points [n, axes]; beyond them the nearest cell goes on as a plane."""
        values = np.array(self.milliseconds).reshape([len(axis) for axis in self.axes])
        cells = [_cell(axis, points[:, number]) for number, axis in enumerate(self.axes)]
        found = np.zeros(len(points))
        for corner in product(*(((low, 1.0 - share), (high, share)) for low, high, share in cells)):
            weight = np.prod([share for _, share in corner], axis=0)
            found += weight * values[tuple(place for place, _ in corner)]
        return found


def monotone(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """An array that does not fall along any axis; one that does not is left as it is.

    The mean of the least such array that is nowhere below `values` and the greatest that is nowhere above.
    """
    above, below = values, values
    for axis in range(values.ndim):
        above = np.maximum.accumulate(above, axis=axis)
        below = np.flip(np.minimum.accumulate(np.flip(below, axis), axis=axis), axis)
    return (above + below) / 2


def _cell(
    axis: Sequence[int], widths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Of each width: the places on the axis below and above it, and how far it is between them."""
    if len(axis) == 1:
        nothing = np.zeros(len(widths), dtype=np.int64)
        return nothing, nothing, np.zeros(len(widths))
    known = np.array(axis)
    low = np.clip(np.searchsorted(known, widths, side="right") - 1, 0, len(known) - 2)
    return low, low + 1, (widths - known[low]) / (known[low + 1] - known[low])
