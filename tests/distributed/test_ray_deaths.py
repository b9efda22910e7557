"""A process of Ray dies: the command starts another embedded Ray and ends as if nothing had happened. One that others
have started is not started again."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from tests.distributed.driver_process import start_command, wait_for_step, wait_until_it_trains
from tests.distributed.foreign_ray import foreign_ray

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_ray"), pytest.mark.timeout(400)]

MakeJob = Callable[..., JobConfig]
NEVER: dict[str, Any] = {
    "checkpoint": {"every_epochs": 10000, "every_minutes": None},
    "training": {"epochs": 10000},
    "schedule": {"epochs": 1},
}
"""No checkpoint, and no end."""


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


def test_a_ray_that_does_not_come_up_is_started_again(make_job: MakeJob, tmp_path: Path) -> None:
    """Ray waits 30 s for its raylet, which stands still here, as on a machine that is too busy."""
    job = make_job("late", 1)
    with start_command(job, tmp_path) as driver:
        try:
            deadline = time.monotonic() + 100
            stopped: list[psutil.Process] = []
            while not stopped:
                assert time.monotonic() < deadline
                assert driver.poll() is None
                stopped = [each for each in psutil.Process(driver.pid).children() if each.name() == "raylet"]
            stopped[0].suspend()
            text = driver.communicate(timeout=200)[0].decode()
        finally:
            driver.kill()
    assert driver.returncode == 0, text
    assert "Ray did not start: " in text
    assert "starting it again in 1 s, from step 0" in text
    assert "Traceback" not in text
    _, alive = psutil.wait_procs(stopped, timeout=20)
    assert not alive


def test_the_same_death_twice_without_a_new_checkpoint_is_final(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("twice", 1, NEVER)
    run = RunDirectory.named(job.storage.root, "twice")
    with start_command(job, tmp_path) as driver:
        try:
            for generation in (1, 2):
                wait_until_it_trains(job, driver, generation)
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


def test_a_ray_of_others_that_dies_ends_the_command_with_one_line(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with foreign_ray() as (address, head):
        monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "25")
        job = make_job("elsewhere", 1, {**NEVER, "cluster": {"address": address, "local_cpus": None}})
        with start_command(job, tmp_path) as driver:
            try:
                wait_until_it_trains(job, driver)
                (server,) = [each for each in head.children(recursive=True) if each.name() == "gcs_server"]
                server.kill()
                text = driver.communicate(timeout=100)[0].decode()
            finally:
                driver.kill()
    assert driver.returncode == 1, text
    # Ray's C++ code may add a line of its own when it ends the process.
    told = [line for line in text.splitlines() if line.startswith("error: ")]
    assert [line.partition(" for ")[0] for line in told] == ["error: Ray has not answered"], text
    assert "Traceback" not in text
    assert "starting it again" not in text
    status = RunDirectory.named(job.storage.root, "elsewhere").read_status()
    assert status is not None
    assert (status.state, status.exit_code) == ("failed", 1)


WAITING = """
import psutil, ray, sys
from cluster.config import ClusterConfig
from cluster.session.session import ray_session
from ray_jobs.exit_codes import explain
from ray_jobs.terminal.end_signals import ends_on_signals

@ray.remote(num_cpus=0, max_retries=3)
def work():
    import time
    time.sleep(1000)

try:
    with ends_on_signals(), ray_session(ClusterConfig(local_cpus=1)):
        waiting = work.remote()
        ray.wait([waiting], timeout=3)
        (server,) = [each for each in psutil.Process().children() if each.name() == sys.argv[1]]
        server.kill()
        ray.get(waiting)
except (Exception, KeyboardInterrupt) as error:
    sys.exit(explain(error, debug=False))
"""


@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_what_waits_for_a_dead_ray_ends_with_one_line(server: str) -> None:
    done = subprocess.run([sys.executable, "-c", WAITING, server], capture_output=True, text=True, timeout=150)
    assert (done.returncode, done.stdout) == (1, "")
    # Ray's C++ code may have written a line of its own to this process's stderr before.
    ours = [line for line in done.stderr.splitlines() if " task_manager.cc:" not in line]
    assert len(ours) == 1, done.stderr
    assert ours[0].startswith("error: Ray has died: its ")
