"""What rank zero writes down."""

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
from resnet_dist.training.state import TrainState


def go_on(_state: TrainState, _metrics: dict[str, float]) -> bool:
    return True


def recorder_of(run: RunDirectory, lease: Lease) -> RunRecorder:
    return RunRecorder(RunStart(JobConfig(), run, lease, "first", None, Microbatches(32, 0), 3), ["hello"], go_on)


def test_a_holder_that_lost_the_run_leaves_the_new_ones_status_alone(tmp_path: Path) -> None:
    run = RunDirectory(Store.open(str(tmp_path)))
    me = ProcessIdentity.current()
    lost = take(run.store, submission="first", driver=me, ttl_s=60.0)
    with recorder_of(run, lost):
        before = run.read_status()
    assert before is not None
    assert (before.state, before.generation) == ("running", 1)
    # The same submission may take it over at once.
    with take(run.store, submission="first", driver=me, ttl_s=60.0) as held, recorder_of(run, held):
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
