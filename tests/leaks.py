"""What a test must leave as it found it: threads, the environment, signal handlers, and settings of torch."""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
import torch

GRACE_S = 5.0
"""A thread that was told to end may take so long."""

LASTING_THREADS = {
    "tqdm_monitor": "one for all progress bars, started by torch.hub's first one",
    "kube-server": "of the API server that tests share (tests/kube_server), which they may restart",
}
"""Beginnings of the names of threads that may stay, and why: those of pools that a library starts once."""

OTHERS_VARIABLES = {
    "PYTEST_CURRENT_TEST": "pytest's own",
    "CRC32C_SW_MODE": "set by tensorboardX when it is imported",
    "RAY_CLIENT_MODE": "set by ray when it is imported",
    "KMP_DUPLICATE_LIB_OK": "set by scikit-learn when it is imported",
    "KMP_INIT_AT_FORK": "set by scikit-learn when it is imported",
}
"""Variables that may change, and why."""


class State:
    """What the tests of one process share, as it is now."""

    def __init__(self) -> None:
        self.threads = set(threading.enumerate())
        self.environment = os.environ.copy()
        self.settings: dict[str, object] = {
            "the working directory": os.getcwd(),  # noqa: PTH109 - a text
            "the handler of SIGINT": signal.getsignal(signal.SIGINT),
            "the handler of SIGTERM": signal.getsignal(signal.SIGTERM),
            "torch's process group": "torch.distributed" in sys.modules and torch.distributed.is_initialized(),
            "torch's number of threads": torch.get_num_threads(),
            "torch's gradients": torch.is_grad_enabled(),
            "torch's default dtype": torch.get_default_dtype(),
            "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        }


def leaks_since(before: State, lasting: Iterable[str] = LASTING_THREADS) -> list[str]:
    """What is not as it was: a line for each, which names it."""
    started = [
        thread for thread in set(threading.enumerate()) - before.threads if not thread.name.startswith(tuple(lasting))
    ]
    if started:
        gc.collect()  # a pool that a library forgot ends its threads when it is collected
    deadline = time.monotonic() + GRACE_S
    for thread in started:
        thread.join(max(deadline - time.monotonic(), 0))
    now = State()
    found = [f"the thread {thread.name!r} is alive" for thread in started if thread.is_alive()]
    for name in sorted(before.environment.keys() | now.environment.keys()):
        was, became = before.environment.get(name), now.environment.get(name)
        if was != became and name not in OTHERS_VARIABLES:
            found.append(f"{name} was {was!r} in the environment and is {became!r}")
    changed = [name for name, was in before.settings.items() if now.settings[name] != was]
    return found + [f"{name} changed" for name in changed]


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Fails where what was done in it has left something behind."""
    before = State()
    yield
    found = leaks_since(before)
    assert not found, "left behind:\n" + "\n".join(found)


@pytest.fixture(autouse=True)
def police() -> Iterator[None]:
    """Every test of a folder whose conftest.py imports this leaves what tests share as it found it."""
    with nothing_left_behind():
        yield
