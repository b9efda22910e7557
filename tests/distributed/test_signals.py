"""What ends a training from outside: a last checkpoint, an exit code, a true status, nothing left behind."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray_jobs.job.config import JobConfig
from ray_jobs.training.driver import run_train
from tests.distributed.driver_process import start_command, status_of, steps_stored, wait_until_it_trains

pytestmark = pytest.mark.timeout(300)

MakeJob = Callable[..., JobConfig]
# No checkpoint is due before the last epoch's, which never comes: what is stored was stored because of the signal.
LONG: dict[str, Any] = {
    "checkpoint": {"every_epochs": 10000, "every_minutes": None},
    "training": {"epochs": 10000},
    "schedule": {"epochs": 1},
}


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the command's folders go, and nothing else: a short path, since Ray's sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def end(driver: "subprocess.Popen[bytes]", number: signal.Signals) -> str:
    """Send a signal and return what the command says; nothing of it is left."""
    below = psutil.Process(driver.pid).children(recursive=True)
    assert below
    began = time.monotonic()
    driver.send_signal(number)
    said = driver.communicate(timeout=100)[0].decode()
    print(f"ended after {time.monotonic() - began:.1f} s, saying:\n{said}")
    _, alive = psutil.wait_procs(below, timeout=20)
    assert not alive
    return said


def test_sigterm_stores_a_checkpoint_and_leaves_nothing_behind(
    make_job: MakeJob, tmp_path: Path, scratch: Path
) -> None:
    job = make_job("terminated", 1, LONG)
    with start_command(job, tmp_path) as driver:
        try:
            wait_until_it_trains(job, driver)
            assert steps_stored(job) == 0
            assert len(list(scratch.glob("rd-*"))) == 2
            said = end(driver, signal.SIGTERM)
        finally:
            driver.kill()
    assert driver.returncode == 143, said
    status, stored = status_of(job), steps_stored(job)
    assert status is not None
    assert (status.state, status.exit_code) == ("stopped", 143)
    assert stored >= status.step >= 1
    assert f"step {stored} is stored" in said
    assert said.endswith("error: ended from outside (SIGTERM); the same command resumes\n")
    assert "Traceback" not in said
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("shared_ray")
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_in_a_terminal_costs_not_one_step(
    make_job: MakeJob, assert_same: Callable[..., None], tmp_path: Path, workers: int
) -> None:
    """A terminal sends it to all processes of the command."""
    job = make_job("interrupted", workers, LONG)
    with start_command(job, tmp_path, start_new_session=True) as driver:
        try:
            wait_until_it_trains(job, driver, step=5)
            os.killpg(driver.pid, signal.SIGINT)
            said = driver.communicate(timeout=100)[0].decode()
        finally:
            driver.kill()
    assert driver.returncode == 130, said
    status, stored = status_of(job), steps_stored(job)
    assert status is not None
    assert (status.state, status.exit_code) == ("stopped", 130)
    assert stored >= status.step >= 5
    epochs = {"training": {"epochs": 1 + stored // 3}}
    resumed, undisturbed = (make_job(name, workers, {**LONG, **epochs}) for name in ("interrupted", "undisturbed"))
    assert run_train(resumed).steps == run_train(undisturbed).steps
    assert_same(resumed, undisturbed)


@pytest.mark.slow
def test_a_second_signal_ends_at_once_and_a_signal_to_all_processes_restarts_nothing(
    make_job: MakeJob, tmp_path: Path, scratch: Path
) -> None:
    job = make_job("twice", 1, LONG)
    for generation, number, to_all in ((1, signal.SIGINT, False), (2, signal.SIGTERM, True)):
        with start_command(job, tmp_path, start_new_session=True) as driver:
            try:
                wait_until_it_trains(job, driver, generation)
                workers = [
                    each
                    for each in psutil.Process(driver.pid).children(recursive=True)
                    if "RayTrainWorker" in " ".join(each.cmdline())
                ]
                if to_all:  # as systemd does
                    os.killpg(driver.pid, number)
                    said = driver.communicate(timeout=100)[0].decode()
                else:
                    for worker in workers:
                        worker.suspend()  # a step that takes for ever
                    driver.send_signal(number)
                    time.sleep(1.5)  # a signal within a second is the same request
                    assert driver.poll() is None
                    said = end(driver, number)
            finally:
                driver.kill()
        assert driver.returncode == 128 + number, said
        status = status_of(job)
        assert status is not None
        assert (status.state, status.exit_code) == ("stopped", 128 + number)
        assert "Traceback" not in said
        assert "starting it again" not in said
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_a_killed_command_s_folders_go_with_the_next_start(make_job: MakeJob, tmp_path: Path, scratch: Path) -> None:
    job = make_job("killed", 1, LONG)
    with start_command(job, tmp_path) as driver:
        wait_until_it_trains(job, driver)
        below = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.communicate()
    psutil.wait_procs(below, timeout=30)
    left = {*scratch.glob("rd-*")}
    assert {each.name.rpartition("-")[0] for each in left} == {"rd-ray", "rd-train"}
    with start_command(job, tmp_path) as driver:
        try:
            wait_until_it_trains(job, driver, 2)
            assert left.isdisjoint(scratch.iterdir())
            end(driver, signal.SIGINT)
        finally:
            driver.kill()
    assert list(scratch.iterdir()) == []
