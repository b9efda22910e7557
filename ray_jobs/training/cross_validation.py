"""Cross-validation: a run for each fold, and the metrics over all of them."""

import json
import statistics
from contextlib import nullcontext
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from typing import Any

from scipy.special import stdtrit  # pyright: ignore[reportUnknownVariableType]

from cluster.session.session import ray_session
from cluster.storage.outage import Patience
from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.folds import fold_jobs
from ray_jobs.run.argument import RUNS
from ray_jobs.run.outcome import TrainOutcome
from ray_jobs.terminal.watcher import note
from ray_jobs.training.driver import check_start, run_train
from resnet_dist.plain_json import plain_number, plain_numbers


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
    """The results of all folds."""

    uri: str
    """Where folds.json is."""
    runs: tuple[TrainOutcome, ...]
    metrics: dict[str, Aggregate]
    """Of each fold's best epoch."""


def run_folds(job: JobConfig, submission: str | None = None) -> FoldsOutcome:
    """Train `data.folds` runs, <name>-fold0 and so on, and write runs/<name>/folds.json.

    Each is a run like any other: the same command resumes it, and leaves finished folds alone. A fold that cannot work
    is refused before the first one trains. Raises what `run_train` raises, and ConfigError without `data.folds`.
    """
    name = run_name(job)
    if job.data.folds is None:
        raise ConfigError("data.folds is not set; give the number of folds, such as --data.folds 5")
    jobs = fold_jobs(job)
    for each in jobs:
        check_start(each)
    # Embedded, each fold has a Ray of its own: one that dies is then started again within its fold.
    with ray_session(job.cluster) if job.cluster.address is not None else nullcontext():
        outcomes = [run_train(each, submission) for each in jobs]
    metrics = {
        key: aggregate([outcome.metrics[key] for outcome in outcomes])
        for key in outcomes[0].metrics
        if all(key in outcome.metrics for outcome in outcomes)
    }
    patience = Patience(job.storage.outage_s, note)
    store = Store.open(job.storage.root).settled().patient(patience).child(f"{RUNS}/{name}")
    store.write("folds.json", (json.dumps(_folds_json(outcomes, metrics), indent=2, allow_nan=False) + "\n").encode())
    return FoldsOutcome(store.uri, tuple(outcomes), metrics)


def _folds_json(outcomes: list[TrainOutcome], metrics: dict[str, Aggregate]) -> dict[str, Any]:
    return {
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


def aggregate(values: list[float]) -> Aggregate:
    """Mean and 95 % interval of two or more values; all NaN where one of them is not finite."""
    if not all(isfinite(value) for value in values):
        return Aggregate(nan, nan, nan, tuple(values))
    mean = statistics.fmean(values)
    half = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / sqrt(len(values))
    return Aggregate(mean, mean - half, mean + half, tuple(values))
