"""Trackers show a run and never stop or delay it."""

import json
import os
import re
import shutil
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Literal

import pytest

from cluster.storage.store import Store
from ray_jobs.job.config import JobConfig
from ray_jobs.job.tracker import TrackerConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.trackers.build import build_tracker, tracked_run
from ray_jobs.trackers.guarded import GuardedTracker
from ray_jobs.trackers.mlflow_tracker import artifact_location
from ray_jobs.trackers.tracker import ExitState, Plain, TrackedRun, Tracker, TrackerError, optional_module

# A resumed run is another process, and each tracker's library keeps state in its own.
_RUN = """
import os
import sys
from pathlib import Path
from pyarrow import fs
from cluster.storage.store import Store
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.job.tracker import TrackerConfig
from ray_jobs.trackers.build import build_tracker, tracked_run
class ObjectStore(Store):
    def write(self, path, data):
        self._filesystem.create_dir(self._full(path).rpartition("/")[0])
        super().write(path, data)
kind, root, resumed, uri, steps = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:]
# MLflow makes its tables first, which takes a busy machine a while.
job = JobConfig(tracker=TrackerConfig(kind=kind, uri=uri or None, finish_s=60.0 if kind == "mlflow" else 15.0))
if root.startswith("remote:"):
    disk = fs.SubTreeFileSystem(root.removeprefix("remote:"), fs.LocalFileSystem())
    run = RunDirectory(ObjectStore(disk, "run", "s3://run"))
else:
    run = RunDirectory(Store.open(root))
tracker = build_tracker(job.tracker, lambda: tracked_run(job, run, int(resumed) if resumed else None))
tracker.start()
tracker.table("classes", ("class", "train", "val"), [("cat", 3, 1)])
for step in map(int, steps):
    tracker.log(step, {"train/loss": 1000.0 + step})
tracker.log(step, {"val/loss": 2000.0 + step})
tracker.epoch_done()
tracker.finish(os.environ.get("ENDS_AS", "finished"))
print(tracker.link)
print(*tracker.take_messages(), sep="\\n")
"""


def run_once(
    kind: str, root: Path | str, steps: Sequence[int], resumed: str = "", uri: str = "", **env: str
) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, kind, str(root), resumed, uri, *map(str, steps)],
        env={**clean, "NETRC": "/no-netrc", "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    return done.stdout.splitlines()


class FakeTracker:
    """Does what it is told to with every log."""

    link = "http://user:secret@127.0.0.1/run"

    def __init__(self, on_log: threading.Event | Exception) -> None:
        self.on_log = on_log

    def start(self) -> str | None:
        return "hello"

    def log(self, step: int, metrics: Mapping[str, float]) -> None:  # noqa: ARG002 - the protocol's
        if isinstance(self.on_log, Exception):
            raise self.on_log
        self.on_log.wait()

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Plain]]) -> None: ...

    def epoch_done(self) -> None: ...

    def finish(self, state: ExitState) -> None: ...


def test_a_first_failure_is_said_once_and_turns_the_tracker_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k3y")
    fake = FakeTracker(OSError("http://u:p@host refused k3y"))
    tracker = GuardedTracker("wandb", lambda: fake, finish_s=20.0)
    tracker.start()
    for step in range(5):
        tracker.log(step, {"train/loss": 1.0})
    tracker.finish("finished")
    hello, failure = tracker.take_messages()
    assert hello == "hello"
    assert failure.startswith("tracker.kind=wandb is off: OSError: http://...@host refused ...; training goes on ")
    assert tracker.link == "http://...@127.0.0.1/run"  # what it took before is still there


def test_an_address_from_the_environment_is_shown_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:my se/cret@host/db")
    fake = FakeTracker(OSError("cannot connect to postgresql://me:my se/cret@host/db"))
    tracker = GuardedTracker("mlflow", lambda: fake, finish_s=20.0)
    tracker.start()
    tracker.log(1, {"train/loss": 1.0})
    tracker.finish("finished")
    assert "cannot connect to postgresql://...@host/db" in " ".join(tracker.take_messages())


def test_a_tracker_that_cannot_be_made_has_no_link_and_stops_nothing() -> None:
    def make() -> Tracker:
        raise TrackerError("no room")

    tracker = GuardedTracker("mlflow", make, finish_s=20.0)
    tracker.start()
    tracker.log(1, {"train/loss": 1.0})
    tracker.finish("finished")
    (failure,) = tracker.take_messages()
    assert failure.startswith("tracker.kind=mlflow is off: no room; training goes on without it")
    assert tracker.link == ""


def test_a_call_that_never_returns_costs_the_run_at_most_the_time_to_finish() -> None:
    never = threading.Event()
    tracker = GuardedTracker("mlflow", lambda: FakeTracker(never), finish_s=0.2, capacity=10)
    before = monotonic()
    tracker.start()
    for step in range(100):
        tracker.log(step, {"train/loss": 1.0})
    tracker.finish("finished")
    assert monotonic() - before < 5.0
    assert "tracker.finish_s=0.2 s" in tracker.take_messages()[-1]
    never.set()


def test_calls_beyond_what_the_queue_holds_are_dropped_and_counted() -> None:
    later = threading.Event()
    tracker = GuardedTracker("mlflow", lambda: FakeTracker(later), finish_s=20.0, capacity=10)
    tracker.start()
    for step in range(100):
        tracker.log(step, {"train/loss": 1.0})
    later.set()
    tracker.finish("finished")
    found = re.search(r"too slow for (\d+) calls", tracker.take_messages()[-1])
    assert found is not None
    # At most 10 wait and one is under way; start, and finish itself, need a place as well.
    assert 89 <= int(found[1]) <= 92


def test_wandb_keeps_a_run_offline_and_goes_on_under_the_same_id(tmp_path: Path) -> None:
    link, message = run_once("wandb", tmp_path, [1, 2, 3])
    run_id = Path(link).name.rpartition("-")[2]
    assert message.endswith(f"wandb sync {link}")
    first = (Path(link) / f"run-{run_id}.wandb").read_bytes()
    assert b"train/loss" in first
    assert b"1003" in first
    again = Path(run_once("wandb", tmp_path, [2, 3, 4], resumed="1")[0])
    assert again.name.endswith(f"-{run_id}")
    second = (again / f"run-{run_id}.wandb").read_bytes()
    assert b"1004" in second
    assert b"1003" not in second  # told by the first start, beyond its checkpoint


@pytest.mark.parametrize("answers", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_wandb_without_its_server_neither_stops_nor_delays(tmp_path: Path, answers: bool) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        if answers:
            server.listen(50)  # accepts and never says a word
        before = monotonic()
        out = run_once("wandb", tmp_path, [1], WANDB_API_KEY="a" * 40, WANDB_BASE_URL=url)
    assert monotonic() - before < 60.0
    assert "training goes on without it" in "\n".join(out)
    assert "a" * 40 not in "\n".join(out)


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(TrackerError, match=r"no_such is not installed: pip install 'resnet-dist\[tracking\]'"):
        optional_module("no_such.client", "tracking")


def test_mlflow_without_its_package_or_its_server_says_so(tmp_path: Path) -> None:
    out = "\n".join(run_once("mlflow", tmp_path, [1], uri="http://127.0.0.1:9"))
    assert "tracker.kind=mlflow is off: " in out
    assert "training goes on without it" in out


def mlflow_metrics(database: Path) -> list[tuple[str, int, float]]:
    """Every metric that a database holds, by key and step."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("select key, step, value from metrics order by key, step").fetchall()


def mlflow_runs(database: Path) -> list[tuple[str, str]]:
    """Every run's id at the tracker and status."""
    with closing(sqlite3.connect(database)) as connection:
        query = "select value, status from runs join tags using (run_uuid) where key = 'resnet_dist.run_id'"
        return connection.execute(query).fetchall()


@pytest.mark.slow
def test_mlflow_keeps_a_whole_history_over_a_resume_in_the_run_directory(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    link = f"sqlite:///{tmp_path}/tracker/mlflow/mlflow.db"
    database, run_id = tmp_path / "tracker/mlflow/mlflow.db", tmp_path / "tracker/id"
    assert run_once("mlflow", tmp_path, [1, 2, 3], ENDS_AS="stopped") == [link, ""]
    assert mlflow_runs(database) == [(run_id.read_text().split()[0], "KILLED")]
    assert run_once("mlflow", tmp_path, [2, 3, 4], resumed="1") == [link, ""]
    train = [("train/loss", step, 1000.0 + step) for step in (1, 2, 3, 4)]
    assert mlflow_metrics(database) == [*train, ("val/loss", 3, 2003.0), ("val/loss", 4, 2004.0)]
    assert mlflow_runs(database) == [(run_id.read_text().split()[0], "FINISHED")]
    (table,) = (tmp_path / "tracker/mlflow").rglob("classes.json")
    assert json.loads(table.read_text()) == {"columns": ["class", "train", "val"], "data": [["cat", 3, 1]]}


@pytest.mark.slow
def test_mlflow_runs_share_a_users_database_and_a_retrained_one_is_another(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/shared/all.db"
    (tmp_path / "shared").mkdir()
    for given in ({"uri": uri}, {"MLFLOW_TRACKING_URI": uri}):
        assert run_once("mlflow", tmp_path / "run", [1, 2], **given) == [uri, ""]
        shutil.rmtree(tmp_path / "run")
    assert not [path.name for path in tmp_path.iterdir() if path.name != "shared"]
    runs = mlflow_runs(tmp_path / "shared/all.db")
    assert len(set(runs)) == 2
    assert len(mlflow_metrics(tmp_path / "shared/all.db")) == 6
    # The experiment's artifacts outlive the run that happened to be its first.
    assert len(list((tmp_path / "shared").rglob("classes.json"))) == 2


@pytest.mark.slow
def test_mlflow_without_a_server_is_refused_where_no_database_can_live(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    out = "\n".join(run_once("mlflow", f"remote:{tmp_path}", [1], TMPDIR=str(tmp_path)))
    assert "s3://run/tracker/mlflow cannot hold MLflow's database" in out
    assert "set tracker.uri" in out
    assert not list(tmp_path.rglob("*.db"))


def test_artifacts_never_end_in_a_workers_own_folder() -> None:
    assert artifact_location("sqlite:////shared/all.db", "tiles") == "file:///shared/mlartifacts"
    assert artifact_location("https://host:5000", "tiles") is None
    for uri in ("postgresql://host/db", "postgresql+psycopg2://host/db", "mysql+pymysql://host/db"):
        with pytest.raises(TrackerError, match=r"database has no experiment 'tiles'.*--artifact-location URI"):
            artifact_location(uri, "tiles")


@pytest.mark.slow
def test_a_relative_uri_of_the_environment_is_refused_too(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    out = "\n".join(run_once("mlflow", tmp_path, [1], MLFLOW_TRACKING_URI="sqlite:///here.db"))
    assert "MLFLOW_TRACKING_URI='sqlite:///here.db' is no absolute path" in out


def a_run(root: Path, kind: Literal["tensorboard", "mlflow"] = "mlflow") -> TrackedRun:
    job = JobConfig(tracker=TrackerConfig(kind=kind))
    return tracked_run(job, RunDirectory(Store.open(str(root))), None)


def test_a_run_keeps_its_id_until_its_directory_is_deleted(tmp_path: Path) -> None:
    first, other = a_run(tmp_path / "run"), a_run(tmp_path / "other")
    assert a_run(tmp_path / "run", "tensorboard").id == first.id != other.id
    assert (tmp_path / "run/tracker/id").read_text() == f"{first.id} run"
    shutil.rmtree(tmp_path / "run")
    assert a_run(tmp_path / "run").id != first.id


def test_a_copy_under_another_name_is_another_run_and_one_elsewhere_is_the_same(tmp_path: Path) -> None:
    first = a_run(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    shutil.copytree(tmp_path / "run", tmp_path / "other root/run")
    copy = a_run(tmp_path / "copy")
    assert copy.id != first.id
    assert a_run(tmp_path / "copy").id == copy.id
    assert a_run(tmp_path / "run").id == a_run(tmp_path / "other root/run").id == first.id


def test_an_id_that_was_stored_without_a_name_is_kept(tmp_path: Path) -> None:
    (tmp_path / "run/tracker").mkdir(parents=True)
    (tmp_path / "run/tracker/id").write_text("0123456789abcdef")
    assert a_run(tmp_path / "run").id == "0123456789abcdef"
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert a_run(tmp_path / "copy").id != "0123456789abcdef"


@pytest.mark.slow
def test_a_run_trained_anew_is_another_one_at_wandb(tmp_path: Path) -> None:
    ids = set[str]()
    for _ in range(2):
        link, _ = run_once("wandb", tmp_path / "run", [1])
        assert b"1001" in next(Path(link).glob("*.wandb")).read_bytes()
        ids.add(Path(link).name.rpartition("-")[2])
        shutil.rmtree(tmp_path / "run")
    assert len(ids) == 2


@pytest.mark.slow
def test_a_remote_run_has_one_id_on_every_machine_and_a_link_that_others_can_follow(tmp_path: Path) -> None:
    for machine in ("one", "two"):
        (tmp_path / machine).mkdir()
        link, message = run_once("wandb", f"remote:{tmp_path}", [1], TMPDIR=str(tmp_path / machine))
        assert link == "s3://run/tracker/wandb"
        assert message.endswith(f"to send it, copy {link} to a machine and there: wandb sync wandb/offline-run-*")
    run_id, name = (tmp_path / "run/tracker/id").read_text().split()
    assert name == "run"
    assert {path.parent.name for path in tmp_path.glob("*/resnet-dist-tracker-*/*/wandb")} == {run_id}
    assert len(list((tmp_path / "run/tracker/wandb/wandb").glob(f"offline-run-*-{run_id}/*.wandb"))) == 2


def test_tensorboard_events_hold_the_metrics_and_a_resumed_run_purges(tmp_path: Path) -> None:
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="tensorboardX is not installed")
    seen: list[tuple[int, float]] = []
    purged: list[int] = []
    for steps, resumed in (([1, 2, 3], ""), ([2, 3, 4], "1")):
        run_once("tensorboard", tmp_path, steps, resumed=resumed)
    for path in sorted((tmp_path / "tracker/tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            purged += [event.step] if event.session_log.status == 1 else []
            seen += [(event.step, v.simple_value) for v in event.summary.value if v.tag == "train/loss"]
    assert purged == [2]
    assert seen == [(step, 1000.0 + step) for step in (1, 2, 3, 2, 3, 4)]


def test_a_remote_run_uploads_an_event_file_for_each_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    stored = Store.open(str(tmp_path / "stored"))
    run = replace(a_run(tmp_path / "run", "tensorboard"), folder=tmp_path / "scratch", upload=stored.write)
    tracker = build_tracker(TrackerConfig(kind="tensorboard"), lambda: run)
    tracker.start()
    for step in (1, 2):
        tracker.log(step, {"train/loss": 1.0})
        tracker.epoch_done()
    tracker.finish("finished")
    assert tracker.take_messages() == []
    assert len(stored.list("")) == 2
    assert not list((tmp_path / "scratch").iterdir())


def test_a_uri_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        TrackerConfig(kind="mlflow", uri="http://me:hunter2@host")
    assert "hunter2" not in json.dumps(caught.value.errors(include_input=False), default=str)


@pytest.mark.parametrize(
    "uri", ["sqlite:///my.db", "sqlite://", "sqlite:///:memory:", "file:./runs", "mlruns", "~/runs"]
)
def test_a_relative_uri_is_refused_because_workers_run_elsewhere(uri: str) -> None:
    with pytest.raises(ValueError, match=r"tracker\.uri='.*' is no absolute path, .* such as sqlite:////"):
        TrackerConfig(kind="mlflow", uri=uri)


@pytest.mark.parametrize(
    "uri",
    ["sqlite:////a/my.db", "file:///a", "/a", "http://host:5000", "https://host", "postgresql://host/db", "databricks"],
)
def test_a_uri_that_means_the_same_everywhere_is_taken(uri: str) -> None:
    assert TrackerConfig(kind="mlflow", uri=uri).uri == uri
