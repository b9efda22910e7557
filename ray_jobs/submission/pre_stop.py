"""What a pod does before Kubernetes ends it: `python -m ray_jobs.submission.pre_stop`.

Ray's processes die at once at the SIGTERM that follows. So the entry point of a job, in the head's pod, is told here
first: the job's command has its workers store a last checkpoint and ends. A pod of workers waits while they train.
Where nothing runs any more, which is so after a job's end, this ends at once, and the pod gives its GPUs back.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MOST_S = 30.0
"""Half of the pods' terminationGracePeriodSeconds; the rest is for Ray to end."""
POD_ENDS = signal.SIGUSR1
"""What the entry point is sent."""
_POLL_S = 0.2
_ENTRY_POINT, _COMMAND = b"ray_jobs.submission.entrypoint", b"ray_jobs"
"""Modules that Python runs."""
_WORKER = b"ray::RayTrainWorker"
"""How Ray names the processes of a worker group."""


def main(most_s: float = MOST_S) -> int:
    """Wait until nothing of the job runs in this pod, for `most_s` at most; 0."""
    until = time.monotonic() + most_s
    for entry_point in _running(_ENTRY_POINT):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(entry_point, POD_ENDS)
    while time.monotonic() < until and (any(_running(_COMMAND)) or any(_workers())):
        time.sleep(_POLL_S)
    return 0


def _running(module: bytes) -> Iterator[int]:
    return (pid for pid, words in _processes() if module in words and b"python" in words[0])


def _workers() -> Iterator[int]:
    return (pid for pid, words in _processes() if words[0].startswith(_WORKER))


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    """Those of this container: their ids, and their command lines word by word."""
    for place in Path("/proc").iterdir():
        if place.name.isdecimal() and int(place.name) != os.getpid():
            with suppress(OSError):  # it has ended
                words = [word for word in place.joinpath("cmdline").read_bytes().split(b"\0") if word]
                if words:
                    yield int(place.name), words


if __name__ == "__main__":
    sys.exit(main())
