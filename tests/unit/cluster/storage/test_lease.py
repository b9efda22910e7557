"""One writer a run, with real processes that die, fall silent or arrive together."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import RunHeldError, StorageError, StorageOutageError
from cluster.storage.lease import Lease, check_free, read_history, take
from cluster.storage.outage import Patience
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from tests.laws import examples
from tests.outages import moved_away

_SPAWN = multiprocessing.get_context("spawn")
_ROUNDS = 6


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
        self.claim = self.taken.get(timeout=60)

    def signal(self, number: int) -> None:
        os.kill(int(self.process.pid or 0), number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.join()


StartHolder = Callable[..., Holder]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Where the lease lies."""
    return Store.open(str(tmp_path))


@pytest.fixture
def start_holder(tmp_path: Path) -> Iterator[StartHolder]:
    """Starts processes that hold the lease; they end with the test."""
    holders: list[Holder] = []

    def start(submission: str = "first", ttl_s: float = 60.0, driver: ProcessIdentity | None = None) -> Holder:
        holders.append(Holder(tmp_path, submission, ttl_s, driver))
        return holders[-1]

    yield start
    for holder in holders:
        if holder.process.is_alive():
            holder.kill()


@pytest.fixture(scope="module")
def dead() -> ProcessIdentity:
    """A process of this host that has ended."""
    code = (
        "from cluster.storage.process_identity import ProcessIdentity as P; import json; "
        "print(json.dumps(P.current().to_json()))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout
    return ProcessIdentity.from_json(json.loads(said))


def me() -> ProcessIdentity:
    return ProcessIdentity.current()


def test_a_living_holder_is_respected_and_nothing_is_written(store: Store, start_holder: StartHolder) -> None:
    holder = start_holder(ttl_s=1.0)
    assert holder.claim[0] == 1
    with pytest.raises(RunHeldError, match=rf"pid {holder.process.pid}"):
        check_free(store, submission="second", ttl_s=5.0)
    with pytest.raises(RunHeldError):
        take(store, submission="second", driver=me(), ttl_s=5.0)
    assert read_history(store) == {holder.claim}
    holder.end.set()
    holder.process.join(20)
    assert holder.process.exitcode == 0
    check_free(store, submission="second", ttl_s=3600.0)
    with take(store, submission="second", driver=me(), ttl_s=3600.0) as lease:  # released: no waiting
        assert lease.claim[0] == 2
        assert lease.history == {holder.claim, lease.claim} == read_history(store)


def test_a_holder_that_may_be_silent_for_longer_than_the_taker_is_respected(
    store: Store, start_holder: StartHolder
) -> None:
    start_holder(ttl_s=6.0)  # a heartbeat every 1.5 s
    with pytest.raises(RunHeldError):
        take(store, submission="second", driver=me(), ttl_s=0.3)


def test_a_killed_holder_is_replaced_at_once(store: Store, start_holder: StartHolder) -> None:
    start_holder().kill()
    with take(store, submission="second", driver=me(), ttl_s=3600.0) as lease:
        assert lease.claim[0] == 2


def test_a_silent_holder_is_replaced_after_the_ttl_and_finds_out(store: Store, start_holder: StartHolder) -> None:
    holder = start_holder(ttl_s=0.5)
    holder.signal(signal.SIGSTOP)
    start = time.monotonic()
    with take(store, submission="second", driver=me(), ttl_s=1.0) as lease:
        assert time.monotonic() - start >= 1.0
        assert lease.claim[0] == 2
        holder.signal(signal.SIGCONT)
        holder.end.set()
        assert "taken over" in holder.taken.get(timeout=20)
        lease.confirm()  # neither its heartbeat nor its end has touched the new lease
        assert read_history(store) == {holder.claim, lease.claim}


def test_a_worker_whose_driver_died_is_given_time_to_die(
    store: Store, start_holder: StartHolder, dead: ProcessIdentity
) -> None:
    holder = start_holder(ttl_s=0.4, driver=dead)
    start = time.monotonic()
    with pytest.raises(RunHeldError):
        check_free(store, submission="second", ttl_s=1.5)
    assert time.monotonic() - start >= 1.5  # where the driver lives, the first heartbeat tells
    holder.kill()
    with take(store, submission="second", driver=me(), ttl_s=3600.0) as lease:
        assert lease.claim[0] == 2


def test_a_new_attempt_of_the_same_submission_takes_over_and_the_old_one_is_fenced(store: Store) -> None:
    old = take(store, submission="same", driver=me(), ttl_s=3600.0)
    new = take(store, submission="same", driver=me(), ttl_s=3600.0)
    with pytest.raises(RunHeldError, match="taken over"):
        old.confirm()
    new.confirm()
    assert new.history == {old.claim, new.claim}


@pytest.mark.parametrize("away", ["moved", "empty"])
def test_a_holder_whose_storage_is_away_is_not_replaced_and_keeps_the_run(tmp_path: Path, away: str) -> None:
    root = tmp_path / "run"
    store = Store.open(str(root))
    with take(store, submission="first", driver=me(), ttl_s=0.1) as lease:
        with moved_away(root):
            if away == "empty":
                root.mkdir()  # where a file system is not mounted
            with pytest.raises(StorageOutageError):
                lease.confirm()
            time.sleep(0.2)  # some heartbeats are due
            if away == "empty":
                root.rmdir()  # nothing was written there
        lease.confirm()
    check_free(store, submission="second", ttl_s=3600.0)


def test_a_holder_whose_storage_is_away_is_replaced_by_whom_it_is_not_away_for(tmp_path: Path) -> None:
    root, mount = tmp_path / "run", tmp_path / "mount"
    root.mkdir()
    mount.symlink_to(root)
    held = Store.open(str(mount)).settled()

    def lose(old: Lease) -> None:
        with old:  # its heartbeats fail from here on
            mount.unlink()
            with take(Store.open(str(root)), submission="second", driver=me(), ttl_s=0.4) as new:
                assert new.history == {old.claim, new.claim}
                mounting = threading.Timer(0.2, mount.symlink_to, [root])
                mounting.start()
                try:
                    Patience(60.0, print, old.confirm).wait_out(lambda: held.write("file", b"mine"))
                finally:
                    mounting.join()
                    new.confirm()

    with pytest.raises(RunHeldError, match="taken over by another process"):
        lose(take(held, submission="first", driver=me(), ttl_s=0.4))
    assert not (root / "file").exists()


def take_in_rounds(root: str, name: str, barrier: Any, won: Any) -> None:
    """In a process of its own: take a new lease in every round, at the same moment as the others."""
    for round_ in range(_ROUNDS):
        store = Store.open(f"{root}/{round_}")
        barrier.wait(60)
        try:
            with take(store, submission=name, driver=ProcessIdentity.current(), ttl_s=4.0):
                won.put((round_, name))
                barrier.wait(60)
        except RunHeldError:
            barrier.wait(60)


def test_of_two_takers_at_once_exactly_one_wins(tmp_path: Path) -> None:
    barrier, won = _SPAWN.Barrier(2), _SPAWN.SimpleQueue()
    takers = [_SPAWN.Process(target=take_in_rounds, args=(str(tmp_path), name, barrier, won)) for name in ("a", "b")]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join(120)
        assert taker.exitcode == 0
    winners: dict[int, list[str]] = {}
    while not won.empty():
        round_, name = won.get()
        winners.setdefault(round_, []).append(name)
    assert sorted(winners) == list(range(_ROUNDS))
    assert all(len(names) == 1 for names in winners.values()), winners


def test_who_deletes_a_lease_neither_disowns_checkpoints_nor_starts_beside_the_holder(
    store: Store, start_holder: StartHolder, caplog: pytest.LogCaptureFixture
) -> None:
    holder = start_holder(ttl_s=1.0)
    store.delete("lease.json")
    with pytest.raises(RunHeldError):
        check_free(store, submission="second", ttl_s=10.0)  # its heartbeat has put the lease back
    holder.kill()
    store.delete("lease.json")
    with take(store, submission="second", driver=me(), ttl_s=60.0) as lease:
        assert lease.claim[0] == 2
        assert lease.history == {holder.claim, lease.claim}
    assert "going by its copy" in caplog.text


@settings(max_examples=examples(0.6), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_a_lease_is_noticed_and_its_copy_used(store: Store, data: st.DataObject) -> None:
    if not store.exists("kept"):
        take(store, submission="x", driver=me(), ttl_s=1.0)
        store.write("kept", store.read("lease.json"))
    whole = store.read("kept")
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del damaged[data.draw(st.integers(0, len(whole) - 1)) :]
    store.write("lease-copy.json", whole)
    before = read_history(store)
    assert len(before) == 1
    store.write("lease.json", bytes(damaged))
    assert read_history(store) == before
    store.write("lease-copy.json", bytes(damaged))
    with pytest.raises(StorageError, match=r"lease\.json and its copy are damaged.*restore one"):
        take(store, submission="x", driver=me(), ttl_s=1.0)
    assert store.read("lease.json") == damaged
    store.write("lease.json", whole)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"null"])
def test_nonsense_in_a_lease_is_noticed(store: Store, content: bytes) -> None:
    for name in ("lease.json", "lease-copy.json"):
        store.write(name, content)
    with pytest.raises(StorageError, match=r"lease\.json and its copy are damaged"):
        read_history(store)


def test_the_heartbeat_of_a_holder_that_lives_here_is_not_waited_for(store: Store, start_holder: StartHolder) -> None:
    holder = start_holder(ttl_s=3600.0)  # the next heartbeat is due in a quarter of an hour
    with pytest.raises(RunHeldError, match=rf"pid {holder.process.pid}"):
        check_free(store, submission="second", ttl_s=30.0)
