"""A bound on the time of a call into a library that may never return: who waits gives up, and says what goes on.

Python cannot end a thread. What does not end by itself, or when it is cancelled, goes on until the process does.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")

BATCH_TIMEOUT_S = 300.0
"""A model may take so long to load, and to answer a batch."""

_GRACE_S = 2.0
"""What is cancelled may take so long to end."""
_overdue: list[threading.Thread] = []


class OverdueError(Exception):
    """A call did not return in time."""

    def __init__(self, is_running: bool) -> None:
        super().__init__()
        self.is_running = is_running
        """Whether it goes on, for cancelling it was in vain."""


def call_within(seconds: float, work: Callable[[], R], cancel: Callable[[], None] = lambda: None) -> R:
    """work(), in a thread of its own. Raises what it raises, or OverdueError after `seconds`, once it is cancelled."""
    done = threading.Event()
    results, errors = list[R](), list[BaseException]()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # raised where it is waited for
            errors.append(error)
        done.set()

    thread = threading.Thread(target=run, name="model", daemon=True)  # the process does not wait for it at its end
    thread.start()
    if not _is_set_within(done, seconds):
        cancel()
        if not _is_set_within(done, _GRACE_S):
            _overdue.append(thread)
        raise OverdueError(thread in _overdue)
    if errors:
        raise errors[0]
    return results[0]


def exit_code(code: int) -> int:
    """The code, to end this process with. Ends it here where a call is overdue that still runs.

    The libraries that it runs in are taken down at a process's end, which aborts it then.
    """
    if any(thread.is_alive() for thread in _overdue):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _is_set_within(event: threading.Event, seconds: float) -> bool:
    """Seconds in which this process is stopped, or the machine sleeps, count as one at most."""
    left = seconds
    while left > 0:
        if event.wait(min(left, 1.0)):
            return True
        left -= 1.0
    return event.is_set()
