"""Cross-validation: a run for each fold, and what they come to together."""

import json
import statistics
from dataclasses import dataclass
from math import isfinite, nan, sqrt

from cluster.session.session import ray_session
from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.run.outcome import TrainOutcome
from ray_jobs.training.driver import check_start, run_train
from resnet_dist.plain_json import plain_number, plain_numbers

_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
          2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093)  # fmt: skip
"""Student's t at 97.5 % for 1 to 19 degrees of freedom."""


@dataclass(frozen=True)
class Aggregate:
    """A metric over the folds."""

    mean: float
    low: float
    high: float
    """95 % interval of the mean by Student's t. Folds share training images, so it is narrower than it should be
    (Bengio and Grandvalet, "No unbiased estimator of the variance of k-fold cross-validation", 2004)."""
    values: tuple[float, ...]
    """By fold."""


@dataclass(frozen=True)
class FoldsOutcome:
    """What all folds have come to."""

    uri: str
    """Where folds.json is."""
    runs: tuple[TrainOutcome, ...]
    metrics: dict[str, Aggregate]
    """Of each fold's best epoch."""


def run_folds(job: JobConfig, submission: str | None = None) -> FoldsOutcome:
    """Train `data.folds` runs, <name>-fold0 and so on, and write runs/<name>/folds.json.

    Each is a run like any other: the same command goes on where it was ended, and leaves finished folds alone.
    What cannot work is refused before the first. Raises what `run_train` raises, ConfigError without `data.folds`.
    """
    name, folds = run_name(job), job.data.folds
    if folds is None:
        raise ConfigError("data.folds is not set; say into how many parts to split, such as --data.folds 5")
    jobs = [
        job.model_copy(
            update={"name": f"{name}-fold{fold}", "data": job.data.model_copy(update={"fold": fold})},
        )
        for fold in range(folds)
    ]
    for each in jobs:
        check_start(each)
    with ray_session(job.cluster):
        outcomes = [run_train(each, submission) for each in jobs]
    metrics = {
        key: aggregate([outcome.metrics[key] for outcome in outcomes])
        for key in outcomes[0].metrics
        if all(key in outcome.metrics for outcome in outcomes)
    }
    store = Store.open(job.storage.root).child(f"runs/{name}")
    value = {
        "schema": 1,
        "runs": [outcome.run for outcome in outcomes],
        "metrics": {
            key: {
                **plain_numbers({"mean": each.mean, "low": each.low, "high": each.high}),
                "folds": [plain_number(value) for value in each.values],
            }
            for key, each in metrics.items()
        },
    }
    store.write("folds.json", (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())
    return FoldsOutcome(store.uri, tuple(outcomes), metrics)


def aggregate(values: list[float]) -> Aggregate:
    """Mean and 95 % interval of two or more values; all NaN where one of them is not finite."""
    if not all(isfinite(value) for value in values):
        return Aggregate(nan, nan, nan, tuple(values))
    mean = statistics.fmean(values)
    half = _T_975[len(values) - 2] * statistics.stdev(values) / sqrt(len(values))
    return Aggregate(mean, mean - half, mean + half, tuple(values))
