"""Widths for a target of latency, corrected by measuring whole networks. Torch-free. Open `fit_to_latency` first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from resnet_dist.compression.latency.block_graphs import whole_graph
from resnet_dist.compression.latency.table import LatencyTable
from resnet_dist.compression.latency.timed_graphs import measure_whole
from resnet_dist.compression.planning.costs import CostModel
from resnet_dist.compression.planning.options import Scores, WidthSpace
from resnet_dist.compression.planning.solve import Reachable, reachable, require_reachable, solve_widths
from resnet_dist.compression.planning.target import Target
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths

TRIES = 4
TOLERANCE = 0.05
"""How far from the target a measured time may be, as a share of it."""
_ROUNDS = 15
"""Other work on the machine must not pass for widths that are too large or too small."""
_BELOW = 1 - 1e-6
"""Inside the bounds of what can be reached."""

Measure = Callable[[Mapping[str, Structure]], Mapping[str, float]]
"""Milliseconds of one image through each network, measured by turns."""


@dataclass(frozen=True)
class Attempt:
    """One network that was tried."""

    widths: Widths
    predicted: float
    """Milliseconds, by the cost model."""
    measured: float
    """Milliseconds."""
    dense: float
    """Milliseconds of the network that is pruned, by turns with this one."""
    wanted: float
    """Milliseconds, by the target."""

    @property
    def ratio(self) -> float:
        """The measured share of the time of the network that is pruned."""
        return self.measured / self.dense

    @property
    def excess(self) -> float:
        """How far the measured time lies above the target, as a share of it; below 0 where it is faster."""
        return self.measured / self.wanted - 1.0


@dataclass(frozen=True)
class Fit:
    """What was tried, in order, and the best of it."""

    attempts: tuple[Attempt, ...]

    @property
    def best(self) -> Attempt:
        """The one nearest to the target."""
        return min(self.attempts, key=lambda each: abs(each.excess))

    @property
    def is_within(self) -> bool:
        """Whether that one is as near as it should be."""
        return abs(self.best.excess) <= TOLERANCE


def measure_by(table: LatencyTable, rounds: int = _ROUNDS) -> Measure:
    """Measures networks of the table's architecture in its engine, on as many threads."""
    found = table.fingerprint

    def measure(structures: Mapping[str, Structure]) -> Mapping[str, float]:
        graphs = {name: whole_graph(each, table.classes, table.size) for name, each in structures.items()}
        return measure_whole(graphs, found.engine, found.threads, rounds)

    return measure


def fit_to_latency(
    space: WidthSpace,
    scores: Scores,
    costs: CostModel,
    target: Target,
    measure: Measure,
    dense: Structure | None = None,
) -> Fit:
    """Solves for the target, measures, and solves for a rescaled one where the measured time is off by over 5 %.

    At most four tries; fewer where another one would give a network that was tried. `costs`: milliseconds, such as a
    `LatencyTable`. `dense`: the network of whose time a ratio is a share, by default that of the space; it is measured
    by turns with each network. Raises what `solve_widths` does, by predicted times.
    """
    dense = dense or space.structure
    whole = costs.cost(dense.layer_widths)
    bounds = reachable(space, costs)
    require_reachable(space, target, bounds, whole)
    limit, attempts = target.limit(whole), list[Attempt]()
    for _ in range(TRIES):
        widths = solve_widths(space, scores, costs, _amount(target, limit))
        if any(widths == each.widths for each in attempts):
            break
        times = measure({"dense": dense, "pruned": replace(space.structure, widths=widths)})
        wanted = target.limit(times["dense"])
        attempts.append(Attempt(widths, costs.cost(widths), times["pruned"], times["dense"], wanted))
        if abs(attempts[-1].excess) <= TOLERANCE:
            break
        limit = _within(bounds, limit * wanted / times["pruned"])
    return Fit(tuple(attempts))


def _amount(target: Target, milliseconds: float) -> Target:
    return Target("latency", milliseconds, "ms", target.engine)


def _within(bounds: Reachable, limit: float) -> float:
    """A limit that can be solved for: the sums of costs are rounded."""
    return min(max(limit, bounds.smallest * (2.0 - _BELOW)), bounds.largest * _BELOW)
