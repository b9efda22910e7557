"""Where a run stands, also with damaged checkpoints."""

import time
from pathlib import Path

import pytest
import torch

from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from ray_jobs.errors import TerminationError
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lifecycle import is_done, outcome_of, standing, write_end
from ray_jobs.run.outcome import BestEpoch
from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.progress import Best, Microbatches, Progress
from resnet_dist.checkpoint.writing import write_checkpoint
from resnet_dist.errors import RunError
from resnet_dist.run_records import MetricLog
from tests.outages import moved_away

JOB = JobConfig().model_copy(update={"training": JobConfig().training.model_copy(update={"epochs": 2})})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run of two epochs of 3 steps that is done, with a checkpoint of each epoch."""
    run = RunDirectory(Store.open(str(tmp_path)))
    with take(run.store, submission="s", driver=ProcessIdentity.current(), ttl_s=30.0) as lease:
        for epoch in (1, 2):
            weights = {"weight": torch.full((8,), float(epoch))}
            progress = Progress(step=3 * epoch, epoch=epoch, step_in_epoch=0, microbatches=Microbatches(4, 0))
            snapshot = Snapshot({"arch": "tiny"}, weights, {"raw_weights": weights}, progress)
            write_checkpoint(run.store, snapshot, lease.claim, lease.confirm)
    return run


def damage_weights(run: RunDirectory, step: int) -> None:
    path = f"checkpoints/step-{step:08d}/weights.safetensors"
    content = run.store.read(path)
    run.store.write(path, content[:-1] + bytes([content[-1] ^ 1]))


def test_a_run_that_is_done_is_told_from_one_that_goes_on(run: RunDirectory) -> None:
    progress = standing(run, JOB)
    assert progress is not None
    assert progress.step == 6
    assert is_done(progress, JOB)
    longer = JOB.model_copy(update={"training": JOB.training.model_copy(update={"epochs": 3})})
    assert standing(run, longer) == progress
    assert not is_done(progress, longer)


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (KeyboardInterrupt(), "stopped", 130),
        (TerminationError(), "stopped", 143),
        (SystemExit(15), "stopped", 143),  # Ray's answer to SIGTERM in a process that has none of its own
        (SystemExit(1), "failed", 1),
        (RunError("the disk is gone"), "failed", 3),
    ],
)
def test_who_ended_a_run_is_in_its_status(run: RunDirectory, error: BaseException, state: str, code: int) -> None:
    write_end(run, "s", error)
    status = run.read_status()
    assert status is not None
    assert (status.state, status.exit_code, status.submission) == (state, code, "s")
    said = {
        130: "interrupted; the same",
        143: "ended from outside (SIGTERM)",
        1: "SystemExit: 1",
        3: "the disk is gone",
    }
    assert status.message.startswith(said[code])


@pytest.mark.parametrize(("stopping", "epochs"), [(False, 2), (True, 9)])
def test_how_a_run_ended_well_is_in_its_outcome_and_its_status(tmp_path: Path, stopping: bool, epochs: int) -> None:
    run = RunDirectory(Store.open(str(tmp_path)))
    changes = {"epochs": epochs, "early_stopping": stopping, "early_stopping_patience": 1}
    job = JOB.model_copy(update={"training": JOB.training.model_copy(update=changes)})
    progress = Progress(
        step=6,
        epoch=2,
        step_in_epoch=0,
        microbatches=Microbatches(4, 0),
        best=Best(3, 0.75, "val/top1"),
        early_stopping={"monitor": "val/loss", "best": 0.5, "waited": 1} if stopping else None,
    )
    with take(run.store, submission="s", driver=ProcessIdentity.current(), ttl_s=30.0) as lease:
        log = MetricLog(run.store, lease.claim)
        log.append({"step": 3, "epoch": 1, "val/top1": 0.75, "val/loss": 0.5})
        log.append({"step": 6, "epoch": 2, "val/top1": 0.5, "val/loss": 0.6})
        log.flush()
    assert is_done(progress, job)
    outcome = outcome_of(run, progress, job, {"splits": {"train": 12, "val": 4}})
    assert outcome.best == BestEpoch(1, 3, "val/top1", 0.75)
    assert outcome.metrics == {"val/top1": 0.75, "val/loss": 0.5}
    ended = "early stopping after epoch 2: val/loss has not improved for 1 epoch, since epoch 1 (0.5000)"
    assert outcome.ended_early == (ended if stopping else "")
    write_end(run, "s", None, outcome.ending)
    status = run.read_status()
    assert status is not None
    best = "best: epoch 1, by val/top1 0.7500"
    assert status.message == (f"{ended}; {best}" if stopping else f"finished after 2 epochs; {best}")


def test_who_ends_a_run_waits_for_no_storage_and_makes_no_folder_anew(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    run, began = RunDirectory(Store.open(str(root))).waiting(900.0), time.monotonic()
    with moved_away(root):
        write_end(run, "s", TerminationError())
    assert time.monotonic() - began < 10
    assert run.read_status() is None


def test_an_end_whose_weights_are_damaged_is_none(run: RunDirectory, caplog: pytest.LogCaptureFixture) -> None:
    damage_weights(run, 6)
    recorded, progress = run.progress(), standing(run, JOB)
    assert recorded is not None
    assert progress is not None
    assert is_done(recorded, JOB)  # the record is whole, and says nothing of the weights
    assert (progress.step, is_done(progress, JOB)) == (3, False)
    assert "step-00000006 is damaged: weights.safetensors" in caplog.text
    damage_weights(run, 3)
    assert standing(run, JOB) is None


def test_a_run_directory_reads_its_checkpoints_by_its_own_lease(run: RunDirectory) -> None:
    assert run.checkpoint("last").step == 6
    assert run.checkpoint(3).step == 3
    assert run.checkpoint("best", "val/top1").step == 6  # none was validated
    newest = run.latest()
    assert newest is not None
    assert newest.weights()["weight"].tolist() == [2.0] * 8
    assert run.metrics() == []
    for file in ("lease.json", "lease-copy.json"):
        run.store.delete(file)
    assert (run.latest(), run.progress()) == (None, None)
