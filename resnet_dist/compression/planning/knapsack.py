"""The multiple-choice knapsack: one option of each group, within a budget, for the greatest value. Torch-free.

Exact on a grid: dynamic programming over the budget cut into cells (Kellerer, Pferschy and Pisinger, Knapsack Problems,
2004, chapter 11). Costs are rounded up to cells, so that a choice never costs more than the budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELLS = 4096


@dataclass(frozen=True)
class Group:
    """Options, of which one is taken. Raises ValueError unless all numbers are finite and costs are at least 0."""

    costs: NDArray[np.float64]
    """[n], n >= 1."""
    values: NDArray[np.float64]
    """[n]."""

    def __post_init__(self) -> None:
        if self.costs.ndim != 1 or not len(self.costs) or self.costs.shape != self.values.shape:
            raise ValueError(
                f"costs {list(self.costs.shape)} and values {list(self.values.shape)}; a group has one of each for "
                "each of its options, of which there is at least one"
            )
        if not (np.isfinite(self.costs).all() and np.isfinite(self.values).all() and (self.costs >= 0).all()):
            raise ValueError("costs are finite and at least 0, and values are finite; a group holds others")


def solve(groups: Sequence[Group], budget: float, cells: int = CELLS) -> list[int] | None:
    """The option of each group, for the greatest sum of values whose costs add up to at most `budget`.

    None where even the cheapest options cost more. Exact where costs, less those of each group's cheapest option, are
    whole multiples of a cell: of what the budget leaves beyond the cheapest options, divided by `cells`. Other costs
    are rounded up to cells. Of equal sums the cheaper one is taken, then the one of lower indices. Costs add up to the
    rounding of float64.
    """
    cheapest = [float(group.costs.min()) for group in groups]
    left = budget - sum(cheapest)
    if left < 0.0:
        return None
    options = [_Options.of(group, least, left, cells) for group, least in zip(groups, cheapest, strict=True)]
    best = np.zeros(cells + 1)
    taken = np.zeros((len(groups), cells + 1), dtype=np.int32)
    for number, each in enumerate(options):
        best, taken[number] = _with_group(best, each)
    # The first cell that has as much as the last: what costs least.
    cell = int(np.flatnonzero(best == best[-1])[0])
    chosen = list[int]()
    for number in range(len(groups) - 1, -1, -1):
        place = int(taken[number, cell])
        chosen.append(int(options[number].indices[place]))
        cell -= int(options[number].cells[place])
    return chosen[::-1]


@dataclass(frozen=True)
class _Options:
    """Those of a group that can be best, in ascending order of cost and of value."""

    cells: NDArray[np.int64]
    values: NDArray[np.float64]
    indices: NDArray[np.int64]

    @classmethod
    def of(cls, group: Group, least: float, left: float, cells: int) -> "_Options":
        extra = group.costs - least
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # where next to nothing is left
            needed = np.where(extra > 0.0, np.ceil(extra * cells / left), 0.0)
        order = np.lexsort((np.arange(len(extra)), extra, -group.values, needed))
        order = order[needed[order] <= cells]
        # An option is worth its cost only where it has more value than all cheaper ones.
        before = np.maximum.accumulate(np.concatenate(([-np.inf], group.values[order][:-1])))
        order = order[group.values[order] > before]
        return cls(needed[order].astype(np.int64), group.values[order], order)


def _with_group(best: NDArray[np.float64], options: _Options) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The best values by cells that may be used, with one more group, and the place of its option."""
    found = np.full_like(best, -np.inf)
    taken = np.zeros(len(best), dtype=np.int32)
    for place, (needed, value) in enumerate(zip(options.cells, options.values, strict=True)):
        candidates = best[: len(best) - needed] + value
        better = candidates > found[needed:]
        found[needed:][better] = candidates[better]
        taken[needed:][better] = place
    return found, taken
