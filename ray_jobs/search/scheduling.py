"""Which trials end early: Ray Tune's schedulers by epoch, which also hear the trials of earlier starts."""

# Ray Tune carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
from typing import Any, cast

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from ray_jobs.search.config import SearchConfig, best_value, is_maximized
from ray_jobs.search.records import TrialRecord, digest_of
from ray_jobs.search.trainable import PARAMS, params_of


def build_scheduler(config: SearchConfig, epochs: int, over: list[TrialRecord], spared: str) -> TrialScheduler:
    """By the best value of the first objective so far; `over` are trials that earlier starts have brought to an end.

    The trial whose digest is `spared` counts like any other and is never ended early.
    """
    mode = "max" if is_maximized(config.objectives[0]) else "min"
    match config.ends_early:
        case "none":
            return FIFOScheduler()
        case "asha":
            scheduler: TrialScheduler = _SparingAsha(
                spared,
                time_attr="epoch",
                metric="objective",
                mode=mode,
                max_t=max(epochs, config.grace_epochs),
                grace_period=config.grace_epochs,
                reduction_factor=config.reduction_factor,
                stop_last_trials=False,  # the last epoch is an end of its own
            )
        case "median":
            scheduler = _SparingMedian(
                spared,
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


class _Sparing:
    """A scheduler that lets one trial go on whatever comes of it: what others are compared with."""

    def __init__(self, spared: str, **settings: Any) -> None:
        super().__init__(**settings)
        self._spared = spared

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Judge the trial, so that its value counts, and keep to it unless the trial is spared."""
        decision = cast("Any", super()).on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if digest_of(params_of(trial.config)) == self._spared else decision


class _SparingAsha(_Sparing, ASHAScheduler):
    """Successive halving."""


class _SparingMedian(_Sparing, MedianStoppingRule):
    """Median stopping."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """As the rule says, which otherwise fails on a result of a trial that it meant to end: one that is spared, or
        one of an earlier start that came further then.
        """
        self._stopped_trials.discard(trial)
        return super().on_trial_result(tune_controller, trial, result)


def _tell(scheduler: TrialScheduler, record: TrialRecord, objective: str) -> None:
    """Let the scheduler hear a trial of an earlier start, epoch by epoch. Ray Tune does not run it: it is a stub."""
    config = {PARAMS: json.dumps(record.params)}
    trial = Trial("earlier", stub=True, trial_id=f"before-{record.digest}", config=config)
    nobody: Any = None
    values: list[float] = []
    scheduler.on_trial_add(nobody, trial)
    for epoch in record.history:
        values.append(epoch[objective])
        scheduler.on_trial_result(nobody, trial, {"epoch": epoch["epoch"], "objective": best_value(objective, values)})
