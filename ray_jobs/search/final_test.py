"""The best trial against the default on images that no trial has seen: what the search has gained."""

# pyarrow carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import parquet
from ray.exceptions import RayError

from cluster.storage.store import Store
from data_pipeline.errors import DataError
from ray_jobs.evaluation.evaluate import run_evaluate
from ray_jobs.search.prepare import SearchStart
from ray_jobs.search.records import SearchDirectory, TrialRecord
from resnet_dist.errors import RunError
from resnet_dist.evaluation.bootstrap import percentile_interval, rows_by_class, rows_of_all
from resnet_dist.evaluation.metrics import confusion_matrix, confusion_metrics

_RESAMPLES = 2000


def final_test(
    directory: SearchDirectory,
    start: SearchStart,
    best: TrialRecord,
    default: TrialRecord,
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """The best trial and the default on the test split; None where there is none, or where it cannot be evaluated."""
    metric = start.facts.config.objectives[0].removeprefix("val/")
    if not start.data.counts.get("test"):
        return None
    one, other = (directory.trial(each.digest).uri for each in (best, default))
    try:
        return compare_on_test(one, other, "top1" if metric == "loss" else metric, start.facts.job.seed)
    except (RunError, DataError, RayError) as error:
        say(f"the best trial was not evaluated on the test split: {error}")
        return None


def compare_on_test(best_uri: str, default_uri: str, metric: str, seed: int) -> dict[str, Any]:
    """`metric` ("top1", "macro_f1" or "balanced_accuracy") of two runs on the test split, and their difference.

    Intervals are those of `resnet_dist.evaluation.bootstrap`; the difference's is paired: both runs are judged on the
    same resamples. Raises what `run_evaluate` raises.
    """
    samples = 0
    predictions: dict[str, NDArray[np.int64]] = {}
    truth = np.zeros(0, dtype=np.int64)
    classes = 0
    for name, uri in (("best", best_uri), ("default", default_uri)):
        outcome = run_evaluate(uri, "test", "best", {})
        table = parquet.read_table(BytesIO(Store.open(uri).read("evaluation/test.predictions.parquet")))
        names = {each.name: place for place, each in enumerate(outcome.result.classes)}
        classes, samples = len(names), table.num_rows
        truth = np.array([names[each] for each in table["label"].to_pylist()], dtype=np.int64)
        predictions[name] = np.array([names[each] for each in table["prediction"].to_pylist()], dtype=np.int64)
    generator = np.random.Generator(np.random.Philox(seed))
    if metric == "top1":
        drawn = rows_of_all(samples, generator, _RESAMPLES)
    else:
        drawn = rows_by_class(truth, generator, _RESAMPLES)

    def value(name: str, rows: NDArray[np.int64]) -> float:
        return confusion_metrics(confusion_matrix(truth[rows], predictions[name][rows], classes))[metric]

    every = np.arange(samples)
    resampled = {name: np.array([value(name, rows) for rows in drawn]) for name in predictions}
    return {
        "metric": metric,
        "samples": samples,
        "best": value("best", every),
        "best_interval": list(percentile_interval(resampled["best"])),
        "default": value("default", every),
        "default_interval": list(percentile_interval(resampled["default"])),
        "difference": value("best", every) - value("default", every),
        "difference_interval": list(percentile_interval(resampled["best"] - resampled["default"])),
    }
