"""Which trials end early: Ray Tune's schedulers by epoch, told again what trials before this start have shown."""

# Ray Tune carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass
from typing import Any, cast

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from ray_jobs.search.config import SearchConfig, best_value, is_maximized
from ray_jobs.search.records import TrialRecord


def build_scheduler(config: SearchConfig, epochs: int, over: list[TrialRecord]) -> TrialScheduler:
    """By the best value of the first objective so far; `over` are trials that earlier starts have brought to an end."""
    mode = "max" if is_maximized(config.objectives[0]) else "min"
    match config.ends_early:
        case "none":
            return FIFOScheduler()
        case "asha":
            scheduler: TrialScheduler = ASHAScheduler(
                time_attr="epoch",
                metric="objective",
                mode=mode,
                max_t=max(epochs, config.grace_epochs),
                grace_period=config.grace_epochs,
                reduction_factor=config.reduction_factor,
                stop_last_trials=False,  # the last epoch is an end of its own
            )
        case "median":
            scheduler = MedianStoppingRule(
                time_attr="epoch",
                metric="objective",
                mode=mode,
                grace_period=config.grace_epochs,
                min_samples_required=config.median_trials,
                min_time_slice=cast("int", float("inf")),  # never pauses a trial: ours go on or end
            )
    for record in over:
        _tell(scheduler, record, config.objectives[0])
    return scheduler


@dataclass(frozen=True)
class _Before:
    """A trial of an earlier start, as far as schedulers look at one: they hash it, and ask for its name."""

    trial_id: str


def _tell(scheduler: TrialScheduler, record: TrialRecord, objective: str) -> None:
    trial: Any = _Before(f"before-{record.digest}")
    nobody: Any = None
    values: list[float] = []
    scheduler.on_trial_add(nobody, trial)
    for epoch in record.history:
        values.append(epoch[objective])
        scheduler.on_trial_result(nobody, trial, {"epoch": epoch["epoch"], "objective": best_value(objective, values)})
