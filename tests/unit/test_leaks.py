"""The police itself: each kind of leak is found, and what was put back is none."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import leaks
from tests.leaks import State, leaks_since, nothing_left_behind


def gradients_off() -> Callable[[], None]:
    torch.set_grad_enabled(False)
    return lambda: torch.set_grad_enabled(True)


def another_dtype() -> Callable[[], None]:
    torch.set_default_dtype(torch.float64)
    return lambda: torch.set_default_dtype(torch.float32)


def deterministic() -> Callable[[], None]:
    torch.use_deterministic_algorithms(True)
    return lambda: torch.use_deterministic_algorithms(False)


def more_threads() -> Callable[[], None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    return lambda: torch.set_num_threads(before)


def process_group() -> Callable[[], None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    return torch.distributed.destroy_process_group


def signal_handler() -> Callable[[], None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return lambda: signal.signal(signal.SIGTERM, before) and None


def another_folder() -> Callable[[], None]:
    before = Path.cwd()
    os.chdir("/")
    return lambda: os.chdir(before)


@pytest.mark.parametrize(
    ("leak", "name"),
    [
        (gradients_off, "torch's gradients"),
        (another_dtype, "torch's default dtype"),
        (deterministic, "torch's deterministic algorithms"),
        (more_threads, "torch's number of threads"),
        (process_group, "torch's process group"),
        (signal_handler, "the handler of SIGTERM"),
        (another_folder, "the working directory"),
    ],
)
def test_a_changed_setting_is_found_until_it_is_put_back(leak: Callable[[], Callable[[], None]], name: str) -> None:
    before = State()
    put_back = leak()
    assert leaks_since(before) == [f"{name} changed"]
    put_back()
    assert leaks_since(before) == []


def test_variables_that_are_set_changed_and_removed_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.setenv("GONE", "1")
    before = State()
    monkeypatch.setenv("KEPT", "2")
    monkeypatch.setenv("NEW", "3")
    monkeypatch.delenv("GONE")
    assert leaks_since(before) == [
        "GONE was '1' in the environment and is None",
        "KEPT was '1' in the environment and is '2'",
        "NEW was None in the environment and is '3'",
    ]


@pytest.mark.parametrize("daemon", [False, True])
def test_a_thread_is_found_while_it_lives_and_one_that_is_ending_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, daemon: bool
) -> None:
    monkeypatch.setattr(leaks, "GRACE_S", 0.05)
    before, end = State(), threading.Event()
    thread = threading.Thread(target=end.wait, name="straggler", daemon=daemon)
    thread.start()
    assert leaks_since(before) == ["the thread 'straggler' is alive"]
    assert leaks_since(before, lasting=["strag"]) == []
    monkeypatch.setattr(leaks, "GRACE_S", 60.0)
    threading.Timer(0.05, end.set).start()
    assert leaks_since(before) == []


def test_a_test_that_leaks_fails_and_every_unit_test_is_watched(request: pytest.FixtureRequest) -> None:
    with pytest.raises(AssertionError, match="left behind:\nLEAKED was None"), nothing_left_behind():
        os.environ["LEAKED"] = "1"
    del os.environ["LEAKED"]
    assert "police" in request.fixturenames
