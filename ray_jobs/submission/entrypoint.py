"""The entry point of a job on a cluster: it runs the command and keeps the command's output in the run's directory.

`python -m ray_jobs.submission.entrypoint VERB ARGUMENTS` runs `resnet-dist VERB ARGUMENTS` and ends with its exit code.
In the environment, RESNET_DIST_SUBMISSION names the submission and RESNET_DIST_RUN the run's URI. Where the same
submission has ended before with an exit code that another try would meet again, this one ends at once with it.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import IO, cast

from cluster.config import StorageConfig
from cluster.errors import StorageError
from cluster.jobs import RUN, SUBMISSION
from cluster.storage.outage import Patience
from cluster.storage.store import Store
from ray_jobs.exit_codes import ExitCode
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.driver_log import DriverLog, read_end
from ray_jobs.submission.environment import valid_submission

FINAL = (ExitCode.USAGE, ExitCode.UNUSABLE, ExitCode.GATE)
"""Exit codes that another try would end with again. 130 and 143 are none: another try resumes."""
_EVERY_S = 10.0
"""How often the log is stored while there is more of it."""


def main(arguments: list[str]) -> int:
    """Run the command to its end and return its exit code."""
    submission, uri = os.environ.get(SUBMISSION, ""), os.environ.get(RUN, "")
    if not arguments or not valid_submission(submission) or not uri:
        sys.stderr.write(f"error: `resnet-dist submit` starts this; it needs a verb, {SUBMISSION} and {RUN}\n")
        return ExitCode.USAGE
    try:
        run = Store.open(uri).patient(Patience.at_start(StorageConfig().outage_s, _say))
        ended = final_exit_code(run, submission)
        log = DriverLog(run.impatient(), submission, arguments[0])
    except StorageError as error:
        sys.stderr.write(f"error: {error}\n")
        return ExitCode.UNUSABLE
    if ended is not None:
        sys.stderr.write(f"error: this submission ended with exit code {ended} before; another try would, too\n")
        return ended
    return _run(arguments, log)


def final_exit_code(run: Store, submission: str) -> int | None:
    """The exit code with which the same submission has ended for good; None where it may be tried."""
    end = read_end(run, submission)
    if end is not None and end.exit_code in FINAL:
        return end.exit_code
    status = RunDirectory(run).read_status()
    if status is not None and status.submission == submission and status.exit_code in FINAL:
        return status.exit_code
    return None


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _run(arguments: list[str], log: DriverLog) -> int:
    command = [sys.executable, "-m", "ray_jobs", *arguments]
    # Into a pipe the command prints plain lines; unbuffered, each is seen when it is printed.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)  # noqa: S603
    stored = _Storing(log)

    def pass_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            child.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    with child:
        output = cast("IO[bytes]", child.stdout)
        while text := os.read(output.fileno(), 65536):
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()
            stored.add(text)
    code = child.returncode
    if code < 0:
        line = f"error: the command was ended by {signal.Signals(-code).name}"
        stored.add(f"{line}\n".encode())
        sys.stderr.write(f"{line}\n")
        code = 128 - code
    stored.end(code)
    return code


class _Storing:
    """Stores a log now and then while it grows. Storage that fails does not stop the command and is reported once."""

    def __init__(self, log: DriverLog) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._often, daemon=True)
        self._thread.start()

    def add(self, text: bytes) -> None:
        with self._lock:
            self._log.add(text)

    def end(self, exit_code: int) -> None:
        self._ended.set()
        self._thread.join()
        for pause in (1.0, 4.0, 0.0):
            try:
                self._log.end(exit_code)
            except StorageError as error:
                self._say(error)
                time.sleep(pause)
            else:
                return

    def _often(self) -> None:
        while not self._ended.wait(_EVERY_S):
            try:
                with self._lock:
                    text = self._log.text()
                self._log.store(text)  # takes its time, and the command must not wait for it
            except StorageError as error:
                self._say(error)

    def _say(self, error: StorageError) -> None:
        if not self._failed:
            self._failed = True
            sys.stderr.write(f"warning: this output cannot be stored: {error}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
