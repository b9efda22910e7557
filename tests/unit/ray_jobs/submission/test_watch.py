"""A running job is shown with what its entry point has written down: its attempt, and the command that it runs."""

from pathlib import Path

from cluster.jobs import JobView
from cluster.storage.store import Store
from ray_jobs.run.driver_log import DriverLog
from ray_jobs.submission.watch import RunReader, one_line


def shown(run: Store, state: str = "running") -> str:
    view = JobView("tiles", "train", state, submission="abc", run=run.uri)  # type: ignore[arg-type]
    return one_line(RunReader().live(view))


def test_the_attempts_of_the_entry_point_are_shown(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path / "run"))
    assert shown(run) == "tiles: running"
    log = DriverLog.begin(run, "abc", "train")
    log.begun(1, 3)
    assert shown(run) == "tiles: running"
    log.add(b"epoch 1\nerror: a worker died\n")
    log.end(1)
    why = "the attempt before ended with exit code 1: error: a worker died"
    assert shown(run) == f"tiles: retrying ({why})"
    log = log.of_next_attempt("train")
    log.begun(2, 3)
    assert shown(run) == f"tiles: running, attempt 2 ({why})"
    log.end(137)
    assert shown(run).startswith("tiles: retrying, attempt 2 (")
    log = log.of_next_attempt("train")
    log.begun(3, 3)
    log.end(1)  # the last one: nothing is tried again
    assert shown(run).startswith("tiles: running, attempt 3 (")
    assert shown(run, "failed").startswith("tiles: failed, exit code 1")


def test_what_is_final_is_not_called_retrying(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path / "run"))
    log = DriverLog.begin(run, "abc", "train")
    log.begun(1, 3)
    log.add(b"error: no images\n")
    log.end(3)
    assert shown(run) == "tiles: running"
    assert shown(run, "failed") == "tiles: failed, exit code 3 (error: no images)"


def test_the_command_that_follows_is_named(tmp_path: Path) -> None:
    run = Store.open(str(tmp_path / "run"))
    log = DriverLog.begin(run, "abc", "train")
    log.begun(1, 3)
    log.end(0)
    log = log.of_next_attempt("export")
    log.begun(1, 3)
    assert shown(run) == "tiles: running, train is done, export runs"
    assert shown(run, "done") == "tiles: done"
