"""A benchmark worker, a process that times one candidate, as the process that starts it sees it. Torch-free."""

import json
import os
import select
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from resnet_dist.export.benchmarking.candidate import Candidate
from resnet_dist.export.benchmarking.timing import Turn
from resnet_dist.runtime.errors import RuntimeMissingError
from resnet_dist.runtime.time_limit import BATCH_TIMEOUT_S

_ROOT = Path(__file__).parents[3]
"""Where the package is imported from."""
_LAST_BYTES = 2000
_PATIENCE_S = 10.0
_REPLY_S = BATCH_TIMEOUT_S
"""A worker may take so long to load, and for batches besides the time that it measures for."""


class BenchmarkError(Exception):
    """A candidate could not be loaded or run; the message names it and gives its error."""


class BenchmarkWorker:
    """Starts loading a candidate on some threads; `ready` waits for it. A context manager that ends the process."""

    def __init__(self, candidate: Candidate, threads: int) -> None:
        self.candidate = candidate
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # The folder that a command is started in must not be able to replace a package.
        paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "resnet_dist.export.benchmarking.worker_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": paths},
        )
        self._requests, self._replies = (cast("IO[str]", each) for each in (self._process.stdin, self._process.stdout))
        self._write(asdict(candidate) | {"threads": threads})

    def ready(self) -> None:
        """Wait until it is loaded. Raises RuntimeMissingError where a package is missing, else BenchmarkError."""
        reply = self._read(_REPLY_S)
        if reply.get("is_missing"):
            raise RuntimeMissingError(str(reply["error"]))
        if "error" in reply:
            raise BenchmarkError(f"{self.candidate.name} cannot be loaded: {reply['error']}")

    def run(self, batch: int, seconds: float) -> Turn:
        """Time batches of `batch` images for about `seconds`. Raises BenchmarkError."""
        self._write({"batch": batch, "seconds": seconds})
        reply = self._read(_REPLY_S + 2 * seconds)
        if "error" in reply:
            raise BenchmarkError(f"{self.candidate.name} cannot run batches of {batch}: {reply['error']}")
        return Turn(batch, tuple(reply["seconds"]), int(reply["peak_bytes"]))

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):  # it may have ended by itself
            self._requests.close()
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
            self._requests.write(json.dumps(value) + "\n")
            self._requests.flush()

    def _read(self, patience_s: float) -> dict[str, Any]:
        # Each reply is one line, and none is sent before it is asked for: what can be read is all of it, or the end.
        if not select.select([self._replies], [], [], patience_s)[0]:
            self._process.kill()
            raise BenchmarkError(
                f"{self.candidate.name} did not load or run a batch in {patience_s:g} s; measure smaller batches if "
                "the machine is slow, else get the bundle from its source"
            )
        line = self._replies.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            stderr = self._errors.read()[-_LAST_BYTES:].decode(errors="replace").strip()
            raise BenchmarkError(
                f"the worker that measured {self.candidate.name} ended with {code}{f': {stderr}' if stderr else ''}; "
                "where memory is short measure fewer formats at a time, or smaller batches"
            )
        return json.loads(line)
