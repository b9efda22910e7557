"""`resnet-dist train` as a process of its own with its own Ray, and how far a run has come."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cluster.storage.store import Store
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import print_config
from ray_jobs.run.directory import RunDirectory
from resnet_dist.run_records import Status


def start_command(job: JobConfig, folder: Path, *, start_new_session: bool = False) -> subprocess.Popen[bytes]:
    """The job's command; its output, errors among it, is a pipe. It may lead a session, and so a process group."""
    config = folder / f"{job.name}.toml"
    config.write_text(print_config(job))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "ray_jobs", "train", "--config", str(config)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=start_new_session,
    )


def steps_stored(job: JobConfig) -> int:
    """The newest checkpoint's step, 0 where there is none."""
    names = Store.open(job.storage.root).list(f"runs/{job.name}/checkpoints")
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def wait_for_step(job: JobConfig, step: int, alive: Callable[[], bool] = lambda: True) -> None:
    """Until a checkpoint of this step or a later one is stored, `alive` all the while."""
    deadline = time.monotonic() + 200
    while steps_stored(job) < step:
        assert time.monotonic() < deadline, f"step {step} was not reached"
        assert alive(), "ended early"
        time.sleep(0.02)


def status_of(job: JobConfig) -> Status | None:
    """What status.json says now."""
    return RunDirectory.named(job.storage.root, job.name or "").read_status()


def wait_until_it_trains(
    job: JobConfig, driver: "subprocess.Popen[bytes]", generation: int = 1, *, step: int = 1
) -> None:
    """Until its status tells of this step of this or a later worker group."""
    deadline = time.monotonic() + 200
    while (status := status_of(job)) is None or status.generation < generation or status.step < step:
        assert time.monotonic() < deadline
        assert driver.poll() is None, driver.communicate()[0].decode()
        time.sleep(0.05)
