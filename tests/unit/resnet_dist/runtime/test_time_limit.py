"""A call that does not return is given up, and what is left of it is said."""

import subprocess
import sys
import threading
import time

import pytest

from resnet_dist.runtime.time_limit import OverdueError, call_within


def test_a_call_in_time_gives_its_result_or_its_error():
    assert call_within(10, lambda: threading.current_thread().daemon) is True
    with pytest.raises(ZeroDivisionError):
        call_within(10, lambda: 1 // 0)


def test_a_call_that_listens_is_cancelled_and_leaves_nothing():
    told = threading.Event()

    def work() -> None:
        told.wait()
        raise ValueError("cancelled")

    with pytest.raises(OverdueError) as caught:
        call_within(0.05, work, told.set)
    assert not caught.value.is_running


def test_a_call_that_does_not_listen_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("resnet_dist.runtime.time_limit._GRACE_S", 0.05)
    end, cancelled = threading.Event(), threading.Event()
    with pytest.raises(OverdueError) as caught:
        call_within(0.05, end.wait, cancelled.set)
    assert caught.value.is_running
    assert cancelled.is_set()
    end.set()


def test_a_process_ends_with_its_code_though_a_call_goes_on():
    script = (
        "import sys, time\n"
        "from resnet_dist.runtime import time_limit\n"
        "time_limit._GRACE_S = 0.05\n"
        "try:\n    time_limit.call_within(0.05, lambda: time.sleep(60))\n"
        "except time_limit.OverdueError:\n    print('given up')\n"
        "time_limit.exit_code(int(sys.argv[1]))\n"
        "print('still here')\n"
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script, "3"], capture_output=True, timeout=50)
    assert (done.returncode, done.stdout) == (3, b"given up\n")
    assert time.monotonic() - begin < 30
