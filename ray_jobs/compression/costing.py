"""What a run's network costs by the measure of a target, and the widths that meet the target."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

from ray_jobs.compression.latency import Latency, latency_of
from ray_jobs.compression.request import PruneRequest
from ray_jobs.compression.speeds import graph_bytes
from ray_jobs.job.config import JobConfig
from ray_jobs.job.preprocessing import preprocess_of
from resnet_dist.compression.planning.options import Choices, Scores, WidthSpace
from resnet_dist.compression.planning.plan import Measured, Plan, Prices, describe
from resnet_dist.compression.planning.solve import reachable, require_reachable, solve_widths
from resnet_dist.compression.planning.target import Target
from resnet_dist.export.config import Format
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths

Say = Callable[[str], None]


@dataclass(frozen=True)
class RoundPlan:
    """The widths of a round, and what they are expected to cost."""

    plan: Plan
    measured_ms: dict[str, float]
    """Of the network before all pruning ("before") and of this one ("after"), where the target is one of latency and
    this is the last round; else empty."""

    @property
    def widths(self) -> Widths:
        """Of the network after the round."""
        return self.plan.after.layer_widths

    @property
    def summary(self) -> str:
        """One line."""
        before, after = self.plan.costs_before, self.plan.costs_after
        shares = (
            f"{after.macs / before.macs:.3f} of the MACs, {after.parameters / before.parameters:.3f} of the parameters"
        )
        return f"{shares}, {100 * self.plan.kept_share:.1f} % of the scores are kept; widths {self.widths.text}"

    def to_json(self) -> dict[str, Any]:
        """Plain values: the plan's, the widths, and what was measured."""
        return {**self.plan.to_json(), "widths": self.widths.to_json(), "measured_ms": self.measured_ms}


@dataclass(frozen=True)
class Costing:
    """A target, and what the network before all pruning costs by its measure."""

    request: PruneRequest
    origin: Structure
    """Before all pruning: ratios are shares of what it costs, and floors shares of its widths."""
    classes: int
    size: tuple[int, int]
    measured: Measured
    latency: Latency | None
    """None where the target is none of latency."""

    @property
    def target(self) -> Target:
        """Of the last round."""
        return self.request.parsed

    @cached_property
    def whole(self) -> float:
        """What the network before all pruning costs."""
        return self._prices.of_target(self.target).cost(self.origin.layer_widths)

    @property
    def kept(self) -> float:
        """The share of the cost that is left at the end."""
        return self.target.limit(self.whole) / self.whole

    def check_reachable(self) -> None:
        """Raises UnreachableTargetError where no widths meet the target."""
        space = self.space_of(self.origin)
        require_reachable(space, self.target, reachable(space, self._prices.of_target(self.target)), self.whole)

    def space_of(self, structure: Structure) -> WidthSpace:
        """The networks that may become of one; floors are shares of the widths before all pruning."""
        choices = Choices(self.request.scope, floor=self.request.floor)
        return WidthSpace(structure, self.size, choices, self.origin)

    def solved(self, structure: Structure, scores: Scores, number: int, rounds: int) -> RoundPlan:
        """The widths of round `number` of `rounds`, by the scores of the network that the rounds before left.

        The cost falls by the same factor in each round. Raises UnreachableTargetError.
        """
        space, prices = self.space_of(structure), self._prices
        target = self.target
        if number < rounds:
            target = replace(target, number=self.kept ** (number / rounds), unit="x")
        widths, measured_ms = structure.layer_widths, dict[str, float]()
        if target.limit(self.whole) < prices.of_target(target).cost(widths):  # else the round before cut enough
            if self.latency is not None and number == rounds:
                widths, measured_ms = self.latency.fitted(space, scores, target, self.origin)
            else:
                widths = solve_widths(space, scores, prices.of_target(target), target, self.whole)
        return RoundPlan(describe(space, scores, target, prices, widths), measured_ms)

    @cached_property
    def _prices(self) -> Prices:
        return Prices.of(self.space_of(self.origin), self.classes, self.measured)


def costing_of(request: PruneRequest, origin: Structure, classes: int, job: JobConfig, say: Say) -> Costing:
    """The costing of a request for a network of `classes` and the job's size.

    A target of bytes has the network's file written once, one of latency has a table measured unless there is one of
    this machine. Raises RuntimeMissingError where the engine is not installed, RunError for a table of another machine.
    """
    target, size = request.parsed, job.data.input_size
    latency: Latency | None = None
    measured = Measured()
    match target.kind:
        case "latency":
            latency = latency_of(request, origin, classes, job, say)
            measured = Measured(latency=latency.table)
        case "bytes":
            network = build_model(origin, classes, 0.0, 0)
            measured = Measured(whole_bytes=graph_bytes(network, preprocess_of(job), cast("Format", target.engine)))
        case "macs" | "parameters":
            pass
    return Costing(request, origin, classes, size, measured, latency)
