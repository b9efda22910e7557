"""Storage goes away while a training writes to it: the training ends with the weights of the undisturbed one."""

import shutil
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.evaluation.evaluate import EvaluationOutcome, run_evaluate
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.search.records import SearchDirectory
from ray_jobs.search.toml import read_search_text
from ray_jobs.search.tune import SearchOutcome, run_tune
from ray_jobs.terminal.watcher import watched
from ray_jobs.training.driver import run_train
from tests.distributed.driver_process import start_command, steps_stored, wait_for_step
from tests.outages import faulty_server, file_system, moved_away, read_only
from tests.s3_server import KEYS, s3_server

pytestmark = [pytest.mark.usefixtures("shared_ray"), pytest.mark.timeout(600)]

MakeJob = Callable[..., JobConfig]


@contextmanager
def read_only_storage(root: Path) -> Generator[Callable[[], Any]]:
    with file_system(root, "1g"):
        yield lambda: read_only(root)


@contextmanager
def moved_storage(root: Path) -> Generator[Callable[[], Any]]:
    root.mkdir()
    yield lambda: moved_away(root)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        pytest.param(read_only_storage, "the file system is read-only", marks=pytest.mark.slow),
        pytest.param(moved_storage, "is not there", marks=pytest.mark.slow),
    ],
)
def test_training_goes_on_while_storage_is_away(
    make_job: MakeJob,
    assert_same: Callable[..., None],
    undisturbed: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    place: Callable[[Path], Any],
    reason: str,
) -> None:
    with place(tmp_path / "outputs") as away:
        job = make_job("away", 1, {"checkpoint": {"every_steps": 1}, "storage": {"root": str(tmp_path / "outputs")}})
        outcome, said = list[Any](), ""
        thread = threading.Thread(target=lambda: outcome.append(run_train(job)))
        with watched():
            thread.start()
            wait_for_step(job, 1, thread.is_alive)
            with away():
                while "storage is away" not in said:
                    assert thread.is_alive()
                    said += capsys.readouterr().out
                    time.sleep(0.05)
            thread.join()
        said += capsys.readouterr().out
        print(said)
        assert outcome
        assert reason in said
        assert "storage is there again after" in said
        assert_same(job, undisturbed.job)
        records = RunDirectory.named(job.storage.root, "away").metrics()
        assert [record["step"] for record in records if "train/loss" in record] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_an_evaluation_keeps_its_result_until_it_can_be_written(
    undisturbed: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs, outcome = Path(undisturbed.job.storage.root) / "runs", list[EvaluationOutcome]()
    with file_system(tmp_path / "outputs", "1g") as disk, watched():
        shutil.copytree(runs, disk / "runs")
        place = str(disk / "runs/undisturbed")
        thread = threading.Thread(target=lambda: outcome.append(run_evaluate(place, "val", "last", {})))
        with read_only(disk):
            thread.start()
            said = ""
            while "storage is away" not in said:
                assert thread.is_alive()
                said += capfd.readouterr().err
                time.sleep(0.05)
        thread.join()
        assert outcome
        assert (disk / "runs/undisturbed/evaluation/val.json").exists()


@pytest.mark.slow
def test_a_search_goes_on_when_storage_is_there_again(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "outputs"
    job = make_job("away", 1, {"storage": {"root": str(root)}, "checkpoint": {"every_steps": 1}})
    text = 'trials = 3\n[space]\n"optimizer.learning_rate" = { log_uniform = [0.001, 0.1] }\n'
    outcome, trials, said = list[SearchOutcome](), root / "searches/away/trials", ""
    thread = threading.Thread(target=lambda: outcome.append(run_tune(job, *read_search_text(text, "a test"))))
    with watched():
        thread.start()
        while not list(trials.glob("*/checkpoints/*/manifest.json")):
            assert thread.is_alive()
            time.sleep(0.02)
        with moved_away(root):
            while "storage is away" not in said:
                assert thread.is_alive()
                said += capsys.readouterr().out
                time.sleep(0.05)
            time.sleep(5.0)  # an outage in which trials end
        thread.join()
    assert outcome
    states = [record.state for record in SearchDirectory.named(str(root), "away").read_trials()]
    assert len(states) == 3
    assert set(states) <= {"finished", "stopped"}  # by the scheduler, which is free to
    assert "storage is there again" in said + capsys.readouterr().out


@pytest.mark.slow
def test_a_minute_of_503_ends_nothing(
    make_job: MakeJob, undisturbed: Any, learnt: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with s3_server(tmp_path / "s3") as server, faulty_server(server.endpoint) as front:
        root = f"s3://data/outputs?endpoint_override={front.address}&scheme=http"
        job = make_job("busy", 1, {"checkpoint": {"every_steps": 1}, "storage": {"root": root}})
        driver = start_command(job, tmp_path)
        wait_for_step(job, 1, lambda: driver.poll() is None)
        front.is_busy = True
        time.sleep(60.0)
        front.is_busy = False
        said = driver.communicate(timeout=300)[0].decode()
        print(said)
        assert driver.returncode == 0
        assert front.refused
        assert "storage is away" in said
        assert "storage is there again after" in said
        assert steps_stored(job) == 6
        one, other = learnt(job), learnt(undisturbed.job)
        assert all(one[name].equal(other[name]) for name in one)
