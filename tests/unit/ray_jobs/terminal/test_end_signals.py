"""SIGINT and SIGTERM, sent to this very process."""

import os
import signal
import threading
import time

import pytest

from ray_jobs.errors import TerminationError
from ray_jobs.terminal.end_signals import ONE_REQUEST_S, ends_on_signals, hears


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminationError)])
def test_each_signal_has_its_exception_and_handlers_come_back(number: signal.Signals, error: type[BaseException]):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as caught, ends_on_signals():
        signal.raise_signal(number)
    assert type(caught.value) is error
    assert signal.getsignal(number) is before


def test_a_plain_interrupt_stands_for_the_signal_that_was_heard():
    """Ray's waits raise it in place of what the handler raises."""

    def wait_as_ray_does(number: signal.Signals) -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None

    for number, error in ((signal.SIGTERM, TerminationError), (signal.SIGINT, KeyboardInterrupt)):
        with pytest.raises(KeyboardInterrupt) as caught, ends_on_signals():
            wait_as_ray_does(number)
        assert type(caught.value) is error


def test_a_signal_that_is_passed_on_by_another_process_is_one_request():
    heard: list[int] = []
    with hears(heard.append):
        began = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert time.monotonic() - began < ONE_REQUEST_S
        assert heard == [signal.SIGTERM]
        time.sleep(max(ONE_REQUEST_S - (time.monotonic() - began), 0.0) + 0.05)
        os.kill(os.getpid(), signal.SIGINT)
        assert heard == [signal.SIGTERM, signal.SIGINT]


def test_a_process_in_the_background_goes_on_ignoring_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ends_on_signals():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_handlers_alone():
    seen: list[object] = []

    def look() -> None:
        with ends_on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
