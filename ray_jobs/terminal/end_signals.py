"""How a command hears that it should end: Ctrl-C from a person, SIGTERM from outside."""

import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from ray_jobs.errors import TerminationError

_heard: int | None = None
ONE_REQUEST_S = 1.0
"""A signal that comes so soon after another is the same request: Ray signals each process of a job, and the job's entry
point passes on what it gets."""


@contextmanager
def ends_on_signals() -> Generator[None]:
    """Within, SIGINT raises KeyboardInterrupt in this thread and SIGTERM TerminationError, which is one.

    Only the main thread can hear signals; in another one this does nothing.
    """

    def end(number: int) -> None:
        global _heard  # noqa: PLW0603 - like the handler, it is one for the process
        _heard = number
        raise interrupt_of(number)

    try:
        with hears(end):
            yield
    except KeyboardInterrupt as error:
        raise as_heard(error) from None
    finally:
        _forget()


def interrupt_of(number: int) -> KeyboardInterrupt:
    """What a signal means to whoever waits for the work."""
    return TerminationError() if number == signal.SIGTERM else KeyboardInterrupt()


def _forget() -> None:
    global _heard  # noqa: PLW0603
    _heard = None


def as_heard(error: KeyboardInterrupt) -> KeyboardInterrupt:
    """The interrupt that the last signal stands for. Ray's waits make a plain one of whatever a handler raises."""
    return error if _heard is None or isinstance(error, TerminationError) else interrupt_of(_heard)


@contextmanager
def hears(end: Callable[[int], None]) -> Generator[None]:
    """Within, `end` is called with the number of each SIGINT and SIGTERM, but once for each request.

    A signal that this process was started to ignore, as shells do with Ctrl-C for what runs in the background, stays
    ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard_s = -ONE_REQUEST_S

    def hear(number: int, _: object) -> None:
        nonlocal heard_s
        if time.monotonic() - heard_s >= ONE_REQUEST_S:
            heard_s = time.monotonic()
            end(number)

    numbers = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
