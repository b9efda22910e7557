"""A subject in a process of its own, as seen from the process that tells it when to run. Torch-free."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from resnet_dist.export.benchmarking.candidate import Subject
from resnet_dist.export.benchmarking.timing import Turn
from resnet_dist.runtime.errors import RuntimeMissingError

_ROOT = Path(__file__).parents[3]
"""Where the package is imported from."""
_LAST_WORDS = 2000
_PATIENCE_S = 10.0


class MeasuringError(Exception):
    """A subject could not be loaded or run: which, and what it said."""


class MeasuredProcess:
    """Loads a subject on some threads at once; `ready` waits for it. A context manager that ends the process."""

    def __init__(self, subject: Subject, threads: int) -> None:
        self.subject = subject
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # The folder that a command is started in must not be able to replace a package.
        paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "resnet_dist.export.benchmarking.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": paths},
        )
        self._orders, self._replies = (cast("IO[str]", each) for each in (self._process.stdin, self._process.stdout))
        self._write(asdict(subject) | {"threads": threads})

    def ready(self) -> None:
        """Wait until it is loaded. Raises RuntimeMissingError where a package is missing, else MeasuringError."""
        reply = self._read()
        if reply.get("is_missing"):
            raise RuntimeMissingError(str(reply["error"]))
        if "error" in reply:
            raise MeasuringError(f"{self.subject.name} cannot be loaded: {reply['error']}")

    def run(self, batch: int, seconds: float) -> Turn:
        """Time batches of `batch` images for about `seconds`. Raises MeasuringError."""
        self._write({"batch": batch, "seconds": seconds})
        reply = self._read()
        if "error" in reply:
            raise MeasuringError(f"{self.subject.name} cannot run batches of {batch}: {reply['error']}")
        return Turn(batch, tuple(reply["seconds"]), int(reply["peak_bytes"]))

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):  # it may have ended by itself
            self._orders.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._replies.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()  # a turn may last longer than anyone waits after Ctrl-C
        self.close()

    def _write(self, value: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # what is read next says why
            self._orders.write(json.dumps(value) + "\n")
            self._orders.flush()

    def _read(self) -> dict[str, Any]:
        line = self._replies.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read()[-_LAST_WORDS:].decode(errors="replace").strip()
            raise MeasuringError(
                f"the process that measured {self.subject.name} ended with {code}{f': {said}' if said else ''}; "
                "where memory is short measure fewer formats at a time, or smaller batches"
            )
        return json.loads(line)
