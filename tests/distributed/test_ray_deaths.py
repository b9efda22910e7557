"""A process of the embedded Ray dies: the command starts another Ray and ends as if nothing had happened."""

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from tests.distributed.driver_process import start_command, wait_for_step

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_ray"), pytest.mark.timeout(400)]

MakeJob = Callable[..., JobConfig]


def server_of(driver: "subprocess.Popen[bytes]", name: str) -> psutil.Process:
    (found,) = [each for each in psutil.Process(driver.pid).children() if each.name() == name]
    return found


@pytest.mark.parametrize(
    ("name", "said"),
    [("raylet", "its raylet was ended by SIGKILL"), ("gcs_server", "its control store (GCS) was ended")],
)
def test_the_command_starts_ray_again_and_loses_nothing(
    make_job: MakeJob, assert_same: Callable[..., None], undisturbed: Any, tmp_path: Path, name: str, said: str
) -> None:
    kill_at = random.randint(1, 5)
    print(f"kill at step {kill_at}")
    job = make_job(f"without-{name}", 2, {"checkpoint": {"every_steps": 1}})
    with start_command(job, tmp_path) as driver:
        try:
            wait_for_step(job, kill_at, lambda: driver.poll() is None)
            below = psutil.Process(driver.pid).children(recursive=True)
            began = time.monotonic()
            server_of(driver, name).kill()
            text = driver.communicate(timeout=300)[0].decode()
            print(f"done {time.monotonic() - began:.1f} s later, saying:\n{text}")
        finally:
            driver.kill()
    assert driver.returncode == 0, text
    assert f"Ray has died: {said}" in text
    assert "starting it again in 1 s, from step" in text
    assert "Traceback" not in text
    _, alive = psutil.wait_procs(below, timeout=20)
    assert not alive
    assert_same(job, undisturbed.job)


def test_the_same_death_twice_without_a_new_checkpoint_is_final(make_job: MakeJob, tmp_path: Path) -> None:
    never = {"checkpoint": {"every_epochs": 10000, "every_minutes": None}, "training": {"epochs": 10000}}
    job = make_job("twice", 1, {**never, "schedule": {"epochs": 10}})
    run = RunDirectory.named(job.storage.root, "twice")
    with start_command(job, tmp_path) as driver:
        try:
            for generation in (1, 2):
                deadline = time.monotonic() + 150
                while (status := run.read_status()) is None or status.generation < generation or status.step < 1:
                    assert time.monotonic() < deadline
                    assert driver.poll() is None, driver.communicate()[0].decode()
                    time.sleep(0.05)
                server_of(driver, "gcs_server").kill()
            text = driver.communicate(timeout=100)[0].decode()
        finally:
            driver.kill()
    assert driver.returncode == 1, text
    assert text.splitlines()[-1].startswith(
        "error: Ray has died: its control store (GCS) was ended by SIGKILL, twice at"
    )
    assert "Traceback" not in text
    status = run.read_status()
    assert status is not None
    assert (status.state, status.exit_code) == ("failed", 1)
