"""What a training seals, and what is made anew of it when files of its run are damaged."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ray_jobs.evaluation.evaluate import run_evaluate
from ray_jobs.job.config import JobConfig
from ray_jobs.job.identity import identity
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.records import RECORDS, SEAL
from ray_jobs.training.driver import run_train
from resnet_dist.checkpoint.manifest import read_manifests, stored_steps
from tests.distributed.conftest import Trained


@pytest.fixture
def job(undisturbed: Trained, tmp_path: Path) -> JobConfig:
    """The job of a copy of a finished run."""
    storage = tmp_path / "storage"
    shutil.copytree(undisturbed.job.storage.root, storage)
    moved = undisturbed.job.storage.model_copy(update={"root": str(storage)})
    return undisturbed.job.model_copy(update={"storage": moved})


@pytest.mark.slow
def test_damaged_records_change_nothing_that_is_judged_and_stop_no_training(
    job: JobConfig, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDirectory.named(job.storage.root, job.name or "")
    whole = {name: run.store.read(name) for name in (*RECORDS, SEAL)}
    sealed = hashlib.sha256(whole[SEAL]).hexdigest()
    manifests = read_manifests(run.store, run._believed())
    assert manifests
    for manifest in manifests.values():
        assert manifest.origin is not None
        assert manifest.origin.records == sealed
        assert manifest.origin.identity == identity(run.read_config(), run.read_dataset().fingerprint)

    before = run_evaluate(run.uri, "val", "best", {}).result
    run.store.write("preprocess.json", whole["preprocess.json"].replace(b"0.485", b"0.085"))
    assert run_evaluate(run.uri, "val", "best", {}).result == before
    assert "preprocess.json is not as it was sealed" in caplog.text

    for name, content in whole.items():
        run.store.write(name, content[: len(content) // 2])
    longer = job.model_copy(update={"training": job.training.model_copy(update={"epochs": 3})})
    outcome = run_train(longer)
    assert (outcome.epochs, outcome.already_finished) == (3, False)
    assert run.records.are_whole()
    for name in ("dataset.json", "split.csv", "preprocess.json"):
        assert run.store.read(name) == whole[name]
    newest = run.checkpoint("last").origin
    assert newest is not None
    assert newest.records == hashlib.sha256(run.store.read(SEAL)).hexdigest() != sealed
    assert json.loads(run.store.read(SEAL))["identity"] == newest.identity
    assert run.checkpoint(min(manifests)).origin == manifests[min(manifests)].origin, (
        "an earlier one is still of the run"
    )


@pytest.mark.slow
def test_a_damaged_part_of_the_metrics_costs_these_alone(
    job: JobConfig, undisturbed: Trained, assert_same: Callable[..., None]
) -> None:
    run = RunDirectory.named(job.storage.root, job.name or "")
    steps = stored_steps(run.store)
    run.store.delete(f"checkpoints/step-{steps[-1]:08d}")  # as if it had been killed before
    part = run.store.list("metrics")[0]
    whole = run.store.read(f"metrics/{part}")
    run.store.write(f"metrics/{part}", whole[: len(whole) // 2])
    run_train(job)
    assert_same(job, undisturbed.job)
    assert run.store.read(f"metrics/damaged/{part}") == whole[: len(whole) // 2]
    status = run.read_status()
    assert status is not None
    log = run.store.read(f"logs/generation-{status.generation:06d}.log").decode()
    assert f"metrics/{part} is damaged" in log
