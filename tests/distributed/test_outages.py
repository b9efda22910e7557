"""Storage goes away while a training writes to it: the training ends with the weights of the undisturbed one."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.terminal.watcher import watched
from ray_jobs.training.driver import run_train
from tests.distributed.driver_process import wait_for_step
from tests.outages import file_system, moved_away, read_only

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
        (read_only_storage, "the file system is read-only"),
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
