"""One writer a run, with real processes that die, fall silent or arrive together."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RunHeldError, StorageError
from cluster.lease import check_free, read_history, take
from cluster.processes import ProcessIdentity
from cluster.storage import Store

_SPAWN = multiprocessing.get_context("spawn")


def hold(root: str, submission: str, ttl_s: float, driver: ProcessIdentity | None, taken: Any, end: Any) -> None:
    """In a process of its own: take the lease, say what came of it, hold it until told to end."""
    try:
        driver = driver or ProcessIdentity.current()
        with take(Store.open(root), submission=submission, driver=driver, ttl_s=ttl_s) as lease:
            taken.put(lease.claim)
            end.wait(60)
    except RunHeldError as error:
        taken.put(str(error))


class Holder:
    def __init__(self, root: Path, submission: str, ttl_s: float = 60.0, driver: ProcessIdentity | None = None) -> None:
        self.taken, self.end = _SPAWN.Queue(), _SPAWN.Event()
        args = (str(root), submission, ttl_s, driver, self.taken, self.end)
        self.process = _SPAWN.Process(target=hold, args=args)
        self.process.start()

    def stop(self) -> None:
        self.end.set()
        self.process.join(20)
        if self.process.is_alive():
            os.kill(int(self.process.pid or 0), signal.SIGKILL)
            self.process.join()


def me() -> ProcessIdentity:
    return ProcessIdentity.current()


def test_a_living_holder_is_respected_and_nothing_is_written(tmp_path: Path) -> None:
    holder = Holder(tmp_path, "first", ttl_s=1.0)
    try:
        generation, _ = holder.taken.get(timeout=30)
        assert generation == 1
        with pytest.raises(RunHeldError, match=rf"pid {holder.process.pid}"):
            check_free(Store.open(str(tmp_path)), submission="second", ttl_s=5.0)
        with pytest.raises(RunHeldError):
            take(Store.open(str(tmp_path)), submission="second", driver=me(), ttl_s=5.0)
        assert len(read_history(Store.open(str(tmp_path)))) == 1
    finally:
        holder.stop()
    with take(Store.open(str(tmp_path)), submission="second", driver=me(), ttl_s=60.0) as lease:
        assert lease.claim[0] == 2  # released at the holder's end: no waiting
        assert len(lease.history) == 2


def test_a_killed_holder_is_replaced_at_once(tmp_path: Path) -> None:
    holder = Holder(tmp_path, "first")
    holder.taken.get(timeout=30)
    os.kill(int(holder.process.pid or 0), signal.SIGKILL)
    holder.process.join()
    with take(Store.open(str(tmp_path)), submission="second", driver=me(), ttl_s=3600.0) as lease:
        assert lease.claim[0] == 2


def test_a_silent_holder_is_replaced_after_the_ttl_and_finds_out(tmp_path: Path) -> None:
    holder = Holder(tmp_path, "first", ttl_s=0.5)
    claim = holder.taken.get(timeout=30)
    pid = int(holder.process.pid or 0)
    os.kill(pid, signal.SIGSTOP)
    try:
        lease = take(Store.open(str(tmp_path)), submission="second", driver=me(), ttl_s=1.0)
        assert lease.claim != claim
        os.kill(pid, signal.SIGCONT)
        holder.end.set()
        assert "taken over" in holder.taken.get(timeout=20)
        lease.confirm()
    finally:
        os.kill(pid, signal.SIGCONT) if holder.process.is_alive() else None
        holder.stop()


def test_a_new_attempt_of_the_same_submission_takes_over_and_the_old_one_is_fenced(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    old = take(store, submission="same", driver=me(), ttl_s=3600.0)
    new = take(store, submission="same", driver=me(), ttl_s=3600.0)
    with pytest.raises(RunHeldError, match="taken over"):
        old.confirm()
    new.confirm()
    assert new.history == {old.claim, new.claim}


@pytest.mark.parametrize("attempt", range(3))
def test_of_two_takers_at_once_at_most_one_wins(tmp_path: Path, attempt: int) -> None:
    holders = [Holder(tmp_path, f"{attempt}-{number}", ttl_s=2.0) for number in range(2)]
    try:
        answers = [holder.taken.get(timeout=40) for holder in holders]
        assert sum(isinstance(answer, tuple) for answer in answers) <= 1, answers
    finally:
        for holder in holders:
            holder.stop()


def test_a_damaged_lease_stops_the_run_instead_of_disowning_its_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "lease.json").write_text('{"schema": 1, "gener')
    with pytest.raises(StorageError, match="damaged"):
        take(Store.open(str(tmp_path)), submission="x", driver=me(), ttl_s=1.0)
