"""The widths that keep most of the scores at a cost, chosen exactly. Torch-free. Open `solve_widths` first.

Given the channels of stem and stages, each block's cost is its own: a multiple-choice knapsack. Scope "all" also tries
all channels of `WidthSpace.coarse`, the most promising first; a Lagrangian bound on what each can keep ends that where
no other can be better (about a second for a ResNet-50, on one core).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from resnet_dist.compression.planning.costs import CostModel
from resnet_dist.compression.planning.kept_scores import block_values, check_scores, coarse_value
from resnet_dist.compression.planning.knapsack import CELLS, Group, solve
from resnet_dist.compression.planning.options import BlockOptions, Coarse, Scores, WidthSpace
from resnet_dist.compression.planning.target import Target
from resnet_dist.errors import UnreachableTargetError
from resnet_dist.model.layers import Site, sites
from resnet_dist.model.widths import Widths

_RATES = np.concatenate(([0.0], np.logspace(-3.0, 3.0, 121)))
"""Multipliers of the bound, in units of the mean value per cost."""


@dataclass(frozen=True)
class Reachable:
    """What a cost can be made by pruning: from the smallest to the network's own."""

    smallest: float
    largest: float


def reachable(space: WidthSpace, costs: CostModel) -> Reachable:
    """The cost of the smallest network of a space, and of the network as it is."""
    priced = _PricedSpace(space, costs)
    smallest = min(priced.cheapest(coarse) for coarse in space.coarse)
    return Reachable(smallest, costs.cost(space.structure.layer_widths))


def solve_widths(
    space: WidthSpace, scores: Scores, costs: CostModel, target: Target, whole: float | None = None
) -> Widths:
    """The widths of a space whose kept channels have the greatest sum of scores, at a cost within the target.

    Exact up to the knapsack's grid. `whole`: the cost of which a target's ratio is a share, by default that of the
    network as it is. Raises UnreachableTargetError for a target below the smallest network's
    cost or not below the present one, ValueError for scores of another network.
    """
    check_scores(space, scores)
    bounds = reachable(space, costs)
    whole = bounds.largest if whole is None else whole
    limit = target.limit(whole)
    require_reachable(space, target, bounds, whole)
    priced, values = _PricedSpace(space, costs), [block_values(space, scores, block) for block in space.blocks]
    candidates = _promising(priced, values, scores, limit)
    best, found = -np.inf, None
    for bound, value, coarse in candidates:
        if bound <= best:
            break
        groups = [Group(cost, kept) for cost, kept in zip(priced.blocks(coarse), values, strict=True)]
        chosen = solve(groups, limit - priced.ends(coarse), CELLS)
        if chosen is None:
            continue
        kept = value + sum(float(each[place]) for each, place in zip(values, chosen, strict=True))
        if kept > best:
            best, found = kept, (coarse, chosen)
    if found is None:  # the target lies within a rounding error of the smallest cost
        raise _unreachable(space, target, bounds, whole)
    coarse, chosen = found
    return space.at(coarse, [block.taken(place) for block, place in zip(space.blocks, chosen, strict=True)])


def kept_share(space: WidthSpace, scores: Scores, widths: Widths) -> float:
    """The share, in [0, 1], of what the scores in the space's scope sum up to that a network of the space keeps."""
    one, two, three, four = (stage.channels for stage in widths.stages)
    own = space.structure.layer_widths
    now = Coarse(own.stem, *(stage.channels for stage in own.stages))
    kept, whole = (
        coarse_value(space, scores, Coarse(widths.stem, one, two, three, four)),
        coarse_value(space, scores, now),
    )
    for block in space.blocks:
        present = replace(block, inner=block.inner[-1:])
        whole += float(block_values(space, scores, present)[0])
        inner = widths.stages[block.stage].blocks[block.number]
        if inner is not None:
            chosen = replace(block, inner=np.array([inner], dtype=np.int64))
            kept += float(block_values(space, scores, chosen)[0])
    return kept / whole if whole > 0.0 else 1.0


@dataclass(frozen=True)
class _PricedSpace:
    """The costs of a space's options; each distinct one is asked for once."""

    space: WidthSpace
    costs: CostModel
    _known: dict[tuple[Site, bytes, bool], NDArray[np.float64]] = field(
        default_factory=dict[tuple[Site, bytes, bool], NDArray[np.float64]]
    )

    @cached_property
    def options(self) -> list[BlockOptions]:
        return self.space.blocks

    def ends(self, coarse: Coarse) -> float:
        return self.costs.ends(coarse.stem, coarse.four)

    def blocks(self, coarse: Coarse) -> list[NDArray[np.float64]]:
        """Of each option of each block."""
        inner = [block.taken(len(block.inner) - 1) for block in self.options]
        structure = replace(self.space.structure, widths=self.space.at(coarse, inner))
        found = (site for site, _ in sites(structure, self.space.size))
        return [self._block(site, options) for site, options in zip(found, self.options, strict=True)]

    def _block(self, site: Site, options: BlockOptions) -> NDArray[np.float64]:
        alike = replace(site, number=min(site.number, 1))  # all blocks behind a stage's first
        key = (alike, options.inner.tobytes(), options.may_go)
        if key not in self._known:
            costs = self.costs.block(site, options.inner)
            self._known[key] = np.append(costs, 0.0) if options.may_go else costs
        return self._known[key]

    def cheapest(self, coarse: Coarse) -> float:
        return self.ends(coarse) + sum(float(each.min()) for each in self.blocks(coarse))


def _promising(
    priced: _PricedSpace, values: list[NDArray[np.float64]], scores: Scores, limit: float
) -> list[tuple[float, float, Coarse]]:
    """(most that its blocks and it can keep, what it keeps itself, channels) of each that can be paid, best first."""
    whole = sum(float(each.max()) for each in values)
    rates = _RATES * (whole / limit if whole > 0.0 else 1.0)
    relaxed = dict[tuple[int, int], NDArray[np.float64]]()
    found = list[tuple[float, float, Coarse]]()
    for coarse in priced.space.coarse:
        if priced.cheapest(coarse) > limit:
            continue
        bound = rates * (limit - priced.ends(coarse))
        for number, (cost, kept) in enumerate(zip(priced.blocks(coarse), values, strict=True)):
            key = (number, id(cost))  # costs are kept, so that an id is that of one array
            if key not in relaxed:
                relaxed[key] = (kept[None, :] - rates[:, None] * cost[None, :]).max(axis=1)
            bound = bound + relaxed[key]
        value = coarse_value(priced.space, scores, coarse)
        found.append((value + float(bound.min()), value, coarse))
    # The first of equal bounds has more channels. A rounding error must end no search.
    return sorted(((bound * (1 + 1e-9), value, coarse) for bound, value, coarse in found), key=lambda each: -each[0])


def require_reachable(space: WidthSpace, target: Target, bounds: Reachable, whole: float) -> None:
    """Raises UnreachableTargetError, as `solve_widths` does."""
    limit = target.limit(whole)
    if limit >= bounds.largest:
        nearest = target.near(bounds.largest, whole, above=False).text
        raise UnreachableTargetError(
            f"target {target.text}: the network already has that, at {nearest}; a target lies below it"
        )
    if limit < bounds.smallest:
        raise _unreachable(space, target, bounds, whole)


def _unreachable(space: WidthSpace, target: Target, bounds: Reachable, whole: float) -> UnreachableTargetError:
    choices = space.choices
    ways = f"take a lower floor than {choices.floor:g}" if choices.scope != "blocks" else "use scope 'inner' or 'all'"
    if choices.scope == "inner":
        ways += ", use scope 'all'"
    try:
        nearest = f"the nearest is {target.near(bounds.smallest, whole).text}"
    except ValueError:
        nearest = "nothing in this scope makes it smaller"
    return UnreachableTargetError(f"target {target.text} is out of reach: {nearest}; take that, or {ways}")
