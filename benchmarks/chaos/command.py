"""A `resnet-dist` command as a process of its own, watched from outside: its processes, its steps, its end."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from ray_jobs.run.directory import RunDirectory

PATIENCE_S = 240.0
"""How long a command may take to go on after a fault, or to end."""
_LOOK_S = 0.05


class StuckError(Exception):
    """A command did not go on, or ended as it should not."""


class Command:
    """The command and all processes below it. `stop` leaves none of them."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._arguments = [sys.executable, "-m", "ray_jobs", *arguments]
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it, as often as it has ended; its words are added to the log."""
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return None if self._process is None else self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send the driver a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def processes(self, name: str) -> list[psutil.Process]:
        """Those below the driver whose name or first argument has `name` in it; "driver" is the command itself."""
        assert self._process is not None
        driver = psutil.Process(self._process.pid)
        if name == "driver":
            return [driver]
        found: list[psutil.Process] = []
        for process in driver.children(recursive=True):
            with suppress(psutil.Error, IndexError):
                if name in process.name() or name in process.cmdline()[0]:
                    found.append(process)
        return sorted(found, key=lambda process: process.pid)

    def wait_until(self, holds: Callable[[], bool], what: str, *, may_end: bool = False) -> None:
        """Raise StuckError where the command ends before, or takes too long."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if self.exit_code is not None and not may_end:
                raise StuckError(f"the command ended with {self.exit_code} before {what}")
            if time.monotonic() > deadline:
                raise StuckError(f"not within {PATIENCE_S:.0f} s: {what}")
            time.sleep(_LOOK_S)

    def wait_for_end(self) -> int:
        """Its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise StuckError(f"the command has not ended within {PATIENCE_S:.0f} s") from None

    def stop(self) -> None:
        """End it and all below it, whatever they do."""
        if self._process is None or self._process.poll() is not None:
            return
        everything = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
        for process in everything:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(everything, timeout=20)


def newest_step(run: RunDirectory) -> int:
    """Of the newest checkpoint, 0 where there is none or storage is away."""
    try:
        progress = run.progress()
    except Exception:  # whatever was damaged: the command has to cope with it, not we
        return 0
    return 0 if progress is None else progress.step


def step_by_status(run: RunDirectory) -> int:
    """How far training has come, by its status."""
    status = run.read_status()
    return 0 if status is None else status.step


def newest_attempt(run: Path) -> tuple[str, int]:
    """The log of the newest worker group, and the step that it began at, 0 where it began anew."""
    logs = sorted((run / "logs").glob("generation-*.log"))
    if not logs:
        return "", 0
    found = re.findall(r"resuming at step (\d+)", logs[-1].read_text())
    return logs[-1].name, int(found[-1]) if found else 0
