"""The entry point of a job on a cluster: it runs the command, again where that may help, and keeps its output.

`python -m ray_jobs.submission.entrypoint VERB ARGUMENTS` runs `resnet-dist VERB ARGUMENTS` and ends with its exit code.
In the environment, RESNET_DIST_SUBMISSION names the submission, RESNET_DIST_RUN the run's URI, and RESNET_DIST_RETRIES
how often a command that failed starts again (0 where it is not set). Each attempt resumes. What another attempt would
meet again ends the job at once, in this one and in every later start of the same submission, with the same words.
"""

import os
import re
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
from cluster.jobs import RETRIES, RUN, SUBMISSION
from cluster.storage.outage import Patience
from cluster.storage.store import Store
from ray_jobs.exit_codes import ExitCode
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.driver_log import DriverLog, read_end
from ray_jobs.submission.environment import valid_submission
from ray_jobs.submission.pre_stop import POD_ENDS

FINAL = (ExitCode.USAGE, ExitCode.UNUSABLE, ExitCode.GATE)
"""Exit codes that another try would end with again. 130 and 143 are none: another try resumes."""
_OVER = (ExitCode.DONE, *FINAL, ExitCode.INTERRUPTED, ExitCode.TERMINATED)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 60.0
"""Before another attempt; each pause is twice as long as the one before."""
_EVERY_S = 10.0
"""How often the log is stored while there is more of it."""


def main(arguments: list[str]) -> int:
    """Run the command to its end and return its exit code."""
    submission, uri = os.environ.get(SUBMISSION, ""), os.environ.get(RUN, "")
    retries = os.environ.get(RETRIES, "0")
    if not arguments or not valid_submission(submission) or not uri or not re.fullmatch(r"\d{1,3}", retries):
        sys.stderr.write(
            f"error: `resnet-dist submit` starts this; it needs a verb, {SUBMISSION} and {RUN}, and a number in "
            f"{RETRIES}\n"
        )
        return ExitCode.USAGE
    try:
        run = Store.open(uri).patient(Patience.at_start(StorageConfig().outage_s, _say))
        ended = final_end(run, submission)
        log = DriverLog.begin(run.impatient(), submission, arguments[0])
    except StorageError as error:
        sys.stderr.write(f"error: {error}\n")
        return ExitCode.UNUSABLE
    if ended is not None:
        code, reason = ended
        sys.stderr.write(f"this submission ended with exit code {code} before, and another try would, too\n{reason}\n")
        return code
    return _attempts(_Command(arguments), log, int(retries))


def final_end(run: Store, submission: str) -> tuple[int, str] | None:
    """With which exit code and words the same submission has ended for good; None where it may be tried."""
    end = read_end(run, submission)
    if end is not None and end.exit_code in FINAL:
        return end.exit_code, end.last_line
    status = RunDirectory(run).read_status()
    code = None if status is None or status.submission != submission else status.exit_code
    if status is not None and code is not None and code in FINAL:
        return code, f"error: {status.message}"
    return None


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _attempts(command: "_Command", log: DriverLog, retries: int) -> int:
    """Attempts, one after the other, until one is done or final, or the job is to end."""
    tried = 0  # here: attempts in pods that have ended say nothing of the command
    while True:
        code = command.run(log)
        tried += 1
        if command.pod_ends:
            command.told_to_end(None)
        if code in _OVER or command.is_to_end or tried > retries:
            return code
        pause_s = min(_FIRST_PAUSE_S * 2 ** (tried - 1), _LONGEST_PAUSE_S)
        _say(f"attempt {tried} of {retries + 1} ended with exit code {code}; the next begins in {pause_s:g} s")
        if command.told_to_end(pause_s):
            return code
        log = log.of_next_attempt()


class _Command:
    """The command; a signal that this process gets is the command's, too, and then there is no other attempt.

    SIGUSR1 says that the pod ends (ray_jobs/submission/pre_stop.py): the command ends as at SIGTERM, and this process
    waits for its own end. If it ended now, Ray would call the job failed, and KubeRay would not submit it to the next
    head.
    """

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = [sys.executable, "-m", "ray_jobs", *arguments]
        self._child: subprocess.Popen[bytes] | None = None
        self._ending, self._number = threading.Event(), signal.SIGTERM
        signal.signal(signal.SIGTERM, self._pass_on)
        signal.signal(signal.SIGINT, self._pass_on)
        signal.signal(POD_ENDS, self._leave)
        self.pod_ends = False

    @property
    def is_to_end(self) -> bool:
        return self._ending.is_set()

    def told_to_end(self, seconds: float | None) -> bool:
        """Wait for so long, None: without end; whether a signal has come."""
        return self._ending.wait(seconds)

    def run(self, log: DriverLog) -> int:
        """One attempt, whose output goes to stdout and to `log`; its exit code."""
        # Into a pipe the command prints plain lines; unbuffered, each is seen when it is printed.
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        stored = _Storing(log)
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(self._arguments, stdout=pipe, stderr=subprocess.STDOUT, env=environment)  # noqa: S603
        with self._child as child:
            if self.is_to_end or self.pod_ends:  # it came before there was a command
                child.send_signal(self._number)
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

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        self._number = signal.Signals(number)
        self._ending.set()
        self._send(number)

    def _leave(self, _: int, __: FrameType | None) -> None:
        self.pod_ends = True
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.send_signal(number)


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
