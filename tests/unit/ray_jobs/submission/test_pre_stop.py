"""Before a pod ends, its driver is told to, and whatever trains there is waited for."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from ray_jobs.submission import pre_stop

DRIVER = """
import signal, subprocess, sys, time
sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
command = subprocess.Popen([*sleeping, "ray_jobs"])
def leave(number, _):
    time.sleep(0.3)  # as if a last checkpoint were written
    command.kill()
    command.wait()
signal.signal(signal.SIGUSR1, leave)
print("ready", flush=True)
while True:
    time.sleep(60)
"""


def process(*words: str) -> "subprocess.Popen[str]":
    """One that shows these words after python's own, and is ready for signals."""
    started = subprocess.Popen([sys.executable, "-c", DRIVER, *words], stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


@pytest.fixture(autouse=True)
def only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod sees its own processes; this machine has others, which are none of ours."""
    seen = pre_stop._processes

    def below() -> object:
        mine = {child.pid for child in psutil.Process().children(recursive=True)}
        return (each for each in seen() if each[0] in mine)

    monkeypatch.setattr(pre_stop, "_processes", below)


def took_s(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def test_an_entry_point_is_told_and_its_command_waited_for() -> None:
    with process("ray_jobs.submission.entrypoint") as entry_point:
        try:
            (command,) = psutil.Process(entry_point.pid).children()
            assert 0.2 < took_s(pre_stop.main) < pre_stop.MOST_S
            assert not command.is_running()
            assert entry_point.poll() is None  # it waits for the pod's end
        finally:
            entry_point.kill()


def test_without_a_driver_or_workers_it_ends_at_once() -> None:
    with subprocess.Popen(["something else", "60"], executable="/bin/sleep") as other:
        assert pre_stop.main(most_s=60.0) == 0
        assert other.poll() is None
        other.kill()


def test_a_worker_that_trains_is_waited_for_and_not_told() -> None:
    with subprocess.Popen(["ray::RayTrainWorker", "60"], executable="/bin/sleep") as worker:
        ends = threading.Timer(0.5, worker.terminate)
        ends.start()
        assert took_s(pre_stop.main) >= 0.4
        assert worker.wait(timeout=30) == -signal.SIGTERM
        ends.join()


def test_it_waits_no_longer_than_it_may() -> None:
    with subprocess.Popen(["ray::RayTrainWorker", "60"], executable="/bin/sleep") as worker:
        assert pre_stop.main(most_s=0.3) == 0
        assert worker.poll() is None
        worker.kill()


def test_it_is_a_module_that_starts_fast() -> None:
    loaded = (
        "import sys, ray_jobs.submission.pre_stop; print([n for n in ('ray', 'torch', 'pyarrow') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "[]\n"
