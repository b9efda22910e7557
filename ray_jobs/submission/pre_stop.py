"""What a pod does before Kubernetes ends it: `python -m ray_jobs.submission.pre_stop`.

Ray's processes die at once at the SIGTERM that follows. So the driver of a job, in the head's pod, gets a SIGTERM here
first: it has its workers store a last checkpoint and ends. A pod of workers waits while they train. Where nothing runs
any more, which is so after a job's end, this ends at once, and the pod gives its GPUs back.
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
_POLL_S = 0.2
_DRIVER = b"ray_jobs.submission.entrypoint"
_WORKER = b"ray::RayTrainWorker"
"""How Ray names the processes of a worker group."""


def main(most_s: float = MOST_S) -> int:
    """Wait until nothing of the job runs in this pod, for `most_s` at most; 0."""
    until = time.monotonic() + most_s
    for driver in _drivers():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(driver, signal.SIGTERM)
    while time.monotonic() < until and (any(_drivers()) or any(_workers())):
        time.sleep(_POLL_S)
    return 0


def _drivers() -> Iterator[int]:
    return (pid for pid, words in _processes() if _DRIVER in words and b"python" in words[0])


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
