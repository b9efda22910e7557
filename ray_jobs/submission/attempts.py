"""Attempts of a submitted command: each is a process of its own, whose output is kept."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from types import FrameType
from typing import IO, cast

from cluster.errors import StorageError
from ray_jobs.exit_codes import NOT_TRIED_AGAIN, ExitCode
from ray_jobs.run.driver_log import DriverLog
from ray_jobs.submission.pre_stop import POD_ENDS
from ray_jobs.submission.usage_record import UsageLog

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 10.0, 60.0
"""Before another attempt; each pause is twice as long as the one before."""
_EVERY_S = 10.0
"""How often the log is stored while there is more of it."""
_USAGE_EVERY = 6
"""Times of `_EVERY_S` after which it is stored that the command still runs."""


def say(text: str) -> None:
    """A line of the entry point's own."""
    sys.stderr.write(f"{text}\n")


class Attempts:
    """Attempts of commands, each with a log of its own; with `usage` also with a record of how long it held GPUs."""

    def __init__(self, log: DriverLog, retries: int, usage: Callable[[int], UsageLog] | None = None) -> None:
        self._log, self._most, self._usage = log, retries + 1, usage
        self._process = _Process()

    def of_all(self, commands: list[list[str]]) -> int:
        """Run the commands one after the other; the exit code of the first that is not done, else 0."""
        code: int = ExitCode.DONE
        for place, command in enumerate(commands):
            if place:
                if self._process.is_to_end:
                    return 128 + self._process.number
                self._log = self._log.of_next_attempt(command[0])
                say(f"{commands[place - 1][0]} is done; {command[0]} begins")
            code = self._of(command)
            if code != ExitCode.DONE:
                break
        return code

    def _of(self, command: list[str]) -> int:
        """Attempts of one command, until one is done or final, or the job is to end."""
        tried = 0  # here: attempts in pods that have ended say nothing of the command
        while True:
            tried += 1
            usage = None if self._usage is None else self._usage(self._log.attempt)
            code = self._process.run(command, _Storing(self._log, partial(self._log.begun, tried, self._most), usage))
            if self._process.pod_ends:
                self._process.told_to_end(None)
            if code in NOT_TRIED_AGAIN or self._process.is_to_end or tried >= self._most:
                return code
            pause_s = min(_FIRST_PAUSE_S * 2 ** (tried - 1), _LONGEST_PAUSE_S)
            say(f"attempt {tried} of {self._most} ended with exit code {code}; the next begins in {pause_s:g} s")
            if self._process.told_to_end(pause_s):
                return code
            self._log = self._log.of_next_attempt(command[0])


class _Process:
    """The running command; a signal that this process gets is the command's, too, and then there is no other attempt.

    SIGUSR1 says that the pod ends (ray_jobs/submission/pre_stop.py): the command ends as at SIGTERM, and this process
    waits for its own end. If it ended now, Ray would call the job failed, and KubeRay would not submit it to the next
    head.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._ending, self.number = threading.Event(), signal.SIGTERM
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

    def run(self, command: list[str], stored: "_Storing") -> int:
        """One attempt, whose output goes to stdout and is `stored`; its exit code."""
        # Into a pipe the command prints plain lines; unbuffered, each is seen when it is printed.
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        pipe, words = subprocess.PIPE, [sys.executable, "-m", "ray_jobs", *command]
        self._child = subprocess.Popen(words, stdout=pipe, stderr=subprocess.STDOUT, env=environment)  # noqa: S603
        with self._child as child:
            if self.is_to_end or self.pod_ends:  # it came before there was a command
                child.send_signal(self.number)
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
        self.number = signal.Signals(number)
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
    """Stores that an attempt has begun and, now and then, its log while it grows and that it runs.

    Storage that fails does not stop the command and is reported once.
    """

    def __init__(self, log: DriverLog, begin: Callable[[], None], usage: UsageLog | None) -> None:
        self._log, self._begin, self._usage = log, begin, usage
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
                self._record(has_ended=True)
            except StorageError as error:
                self._say(error)
                time.sleep(pause)
            else:
                return

    def _often(self) -> None:
        has_begun = False
        for turn in count():
            has_begun = has_begun or self._tried(self._begin)
            if turn % _USAGE_EVERY == 0:
                self._tried(self._record)
            if self._ended.wait(_EVERY_S):
                return
            self._tried(self._store)

    def _store(self) -> None:
        with self._lock:
            text = self._log.text()
        self._log.store(text)  # takes its time, and the command must not wait for it

    def _record(self, *, has_ended: bool = False) -> None:
        if self._usage is not None:
            self._usage.write(has_ended=has_ended)

    def _tried(self, action: Callable[[], None]) -> bool:
        """Whether it was stored."""
        try:
            action()
        except StorageError as error:
            self._say(error)
            return False
        return True

    def _say(self, error: StorageError) -> None:
        if not self._failed:
            self._failed = True
            sys.stderr.write(f"warning: this output cannot be stored: {error}\n")
