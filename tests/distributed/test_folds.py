"""Cross-validation trains a run for each fold, sums them up, and goes on where it was ended."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.splits.assign import read_split_csv
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.cross_validation import run_folds

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_ray")]


def test_each_image_is_judged_by_one_fold_and_the_folds_are_summed_up(make_job: Callable[..., JobConfig]) -> None:
    job = make_job("parts", 2, {"data": {"folds": 2}, "training": {"epochs": 1}})
    outcome = run_folds(job)
    assert not any(run.already_finished for run in outcome.runs)
    runs = [RunDirectory.named(job.storage.root, f"parts-fold{fold}") for fold in range(2)]
    rows = [read_split_csv(run.read_split_csv()) for run in runs]
    judged = [{row.sample_id for row in part if row.split == "val"} for part in rows]
    assert not judged[0] & judged[1]
    assert judged[0] | judged[1] == {row.sample_id for row in rows[0]}

    stored = json.loads((Path(job.storage.root) / "runs/parts/folds.json").read_text())
    assert stored["runs"] == [run.uri for run in runs]
    for name, found in stored["metrics"].items():
        assert found["folds"] == [run.metrics[name] for run in outcome.runs]
        assert found["mean"] == pytest.approx(statistics.fmean(found["folds"]))
        assert found["low"] <= found["mean"] <= found["high"]
    assert {"val/top1", "val/macro_f1"} <= stored["metrics"].keys()

    again = run_folds(job)
    assert all(run.already_finished for run in again.runs)
    assert again.metrics == outcome.metrics
