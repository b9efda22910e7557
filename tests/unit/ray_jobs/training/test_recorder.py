"""What rank zero writes down."""

import time
from pathlib import Path

import pytest

from cluster.errors import RunHeldError
from cluster.storage.lease import Lease, take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.recorder import RunRecorder, RunStart
from resnet_dist.checkpoint.progress import Microbatches
from resnet_dist.run_records import MetricLog
from resnet_dist.training.state import TrainState
from tests.outages import moved_away


def go_on(_state: TrainState, _metrics: dict[str, float]) -> bool:
    return True


def recorder_of(run: RunDirectory, lease: Lease) -> RunRecorder:
    return RunRecorder(RunStart(JobConfig(), run, lease, "first", None, Microbatches(32, 0), 3), ["hello"], go_on)


def test_a_holder_that_lost_the_run_leaves_the_new_ones_status_alone(tmp_path: Path) -> None:
    run = RunDirectory(Store.open(str(tmp_path)))
    me = ProcessIdentity.current()
    lost = take(run.store, submission="first", driver=me, ttl_s=60.0)
    with recorder_of(run, lost):
        pass
    before = run.read_status()
    assert before is not None
    assert (before.state, before.generation) == ("running", 1)
    # The same submission may take it over at once.
    with take(run.store, submission="first", driver=me, ttl_s=60.0) as held:
        with recorder_of(run, held):
            pass
        with pytest.raises(RunHeldError, match="taken over"), recorder_of(run, lost):
            pass
        after = run.read_status()
        assert after is not None
        assert after.generation == 2


def test_a_status_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    run = RunDirectory(Store.open(str(tmp_path)))
    with take(run.store, submission="first", driver=ProcessIdentity.current(), ttl_s=60.0) as lease:
        (tmp_path / "status.json").mkdir()  # nothing can replace a folder
        with recorder_of(run, lease):
            pass
    assert (tmp_path / "logs/generation-000001.log").read_text() == "hello\n"


def test_a_restart_without_a_checkpoint_begins_its_records_anew(tmp_path: Path) -> None:
    run = RunDirectory(Store.open(str(tmp_path)))
    for _ in range(2):
        with take(run.store, submission="first", driver=ProcessIdentity.current(), ttl_s=60.0) as lease:
            log = MetricLog(run.store, lease.claim)
            with recorder_of(run, lease):
                for step in (1, 2, 3):
                    log.append({"step": step, "train/loss": 1.0 / step})
                log.flush()  # and no checkpoint: the process ends here
    assert [record["step"] for record in run.metrics()] == [1, 2, 3]


def test_status_and_log_tell_of_an_outage_afterwards(tmp_path: Path) -> None:
    run = RunDirectory(Store.open(str(tmp_path / "run")))
    me = ProcessIdentity.current()
    with take(run.store, submission="first", driver=me, ttl_s=60.0) as lease:
        recorder = recorder_of(run.waiting(60.0, confirm=lease.confirm), lease)
        with recorder:
            recorder._writer.drain()
            with moved_away(tmp_path / "run"):
                recorder._put_status()
                while not recorder._storage_word:
                    time.sleep(0.005)
    status, log = run.read_status(), (tmp_path / "run/logs/generation-000001.log").read_text()
    assert status is not None
    assert status.message.startswith("storage is there again after")
    assert log.startswith("hello\nstorage is away (")
    assert len(log.splitlines()) == status.messages == 3
