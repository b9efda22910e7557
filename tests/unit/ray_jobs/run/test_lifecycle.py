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
from ray_jobs.run.lifecycle import is_done, standing, write_end
from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.progress import Microbatches, Progress
from resnet_dist.checkpoint.writing import write_checkpoint
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
    ],
)
def test_who_ended_a_run_is_in_its_status(run: RunDirectory, error: BaseException, state: str, code: int) -> None:
    write_end(run, "s", error)
    status = run.read_status()
    assert status is not None
    assert (status.state, status.exit_code, status.submission) == (state, code, "s")


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
