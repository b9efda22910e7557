"""The processes of an embedded Ray, which this process has started: whether they live, and what SIGTERM means here."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ray._private import ray_constants, worker

from cluster.errors import RayDiedError

_NAMES = {
    ray_constants.PROCESS_TYPE_RAYLET: "its raylet",
    ray_constants.PROCESS_TYPE_GCS_SERVER: "its control store (GCS)",
}


def death() -> str | None:
    """What has ended of the embedded Ray, and how; None while it lives, and where it is not this process's own."""
    node: Any = worker._global_node  # pyright: ignore[reportUnknownMemberType, reportPrivateUsage]
    if node is None:
        return None
    for kind, process in node.dead_processes():
        if kind in _NAMES:
            return f"Ray has died: {_NAMES[kind]} {_ending(process.returncode)}"
    return None


def require_life() -> None:
    """Raise RayDiedError where the embedded Ray has died. What is asked of a dead one may wait for a minute."""
    if (what := death()) is not None:
        raise RayDiedError(what)


@contextmanager
def naming_death() -> Generator[None]:
    """Within, whatever fails where the embedded Ray has died fails with RayDiedError."""
    try:
        yield
    except Exception as error:
        what = death()
        if what is None or isinstance(error, RayDiedError):
            raise
        raise RayDiedError(what) from error


@contextmanager
def answering_sigterm() -> Generator[None]:
    """Around Ray's start, which makes SIGTERM a `sys.exit` in this process: what it did before, if anything, stays."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        if error.code == signal.SIGTERM and callable(before):  # it came meanwhile
            before(signal.SIGTERM, None)
        raise
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
