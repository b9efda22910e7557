"""`resnet-dist compress plan`: what a target comes to, and what can be reached. Nothing is trained, no image is read.

Channels are ranked by the size of their BatchNorm weights, which needs no images. `compress prune` scores them with
images and so may choose other widths; what they cost is the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray_jobs.compression.costing import costing_of
from ray_jobs.compression.phase_job import PRUNED, require_float
from ray_jobs.compression.request import PruneRequest
from ray_jobs.job.toml_codec import Tree
from ray_jobs.run.lookup import find_run, job_of_run
from resnet_dist.compression.planning.plan import Plan
from resnet_dist.compression.pruning.magnitudes import magnitudes
from resnet_dist.model.model_json import structure_of

SCHEMA = 1


@dataclass(frozen=True)
class PlanOutcome:
    """A target, and what it comes to for a run."""

    run: str
    """URI."""
    request: PruneRequest
    plan: Plan
    measured_ms: dict[str, float]
    """Of whole networks with these widths, for a target of latency: "before", "after" and "wanted"; else empty."""

    @property
    def rows(self) -> list[tuple[str, float, float]]:
        """(what, now, planned) of each cost that is known."""
        before, after = self.plan.costs_before, self.plan.costs_after
        found = [("parameters", before.parameters, after.parameters), ("MACs", before.macs, after.macs)]
        if before.bytes is not None and after.bytes is not None:
            found.append(("bytes", before.bytes, after.bytes))
        if before.milliseconds is not None and after.milliseconds is not None:
            found.append(("milliseconds, predicted", before.milliseconds, after.milliseconds))
        if self.measured_ms:
            found.append(("milliseconds, measured", self.measured_ms["before"], self.measured_ms["after"]))
        return found

    @property
    def range(self) -> str:
        """What can be reached, in words."""
        bounds, kind = self.plan.reachable, self.plan.target.kind
        return (
            f"reachable by scope {self.plan.choices.scope}: {kind} from {bounds.smallest:.4g} to {bounds.largest:.4g}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": SCHEMA, "run": self.run, **self.plan.to_json(), "measured_ms": self.measured_ms}


def run_plan(
    run: str, request: PruneRequest, changes: Tree, say: Callable[[str], None] = lambda _: None
) -> PlanOutcome:
    """Plan the pruning of a finished run. Raises UnreachableTargetError, which names the nearest target, and what
    `costing_of` raises."""
    directory = find_run(run, changes)
    job = job_of_run(directory, changes)
    best = directory.checkpoint("best")
    require_float(directory, best, PRUNED)
    structure = structure_of(best.model_json())
    request.check_fits(structure)
    costing = costing_of(request, structure, len(directory.read_dataset().classes), job, say)
    costing.check_reachable()
    found = costing.solved(structure, magnitudes(best.weights(), structure), 1, 1)
    return PlanOutcome(directory.uri, request, found.plan, found.measured_ms)
