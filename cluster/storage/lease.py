"""One writer a run: `lease.json`, a generation and a random token for each worker-group attempt.

Storage offers no conditional write, so a lease is taken by write, wait and read back. Whatever its holder stores
carries generation and token: a holder that lost its lease unnoticed can still write, but no reader believes it.

Only `lease.json` says which claims to believe. `lease-copy.json` repeats it as it was when it was last taken, and is
read where lease.json is gone or damaged: a person who deletes a lease to free a run must not disown its checkpoints
with it, nor start beside a process that still trains.
"""

import logging
import secrets
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from cluster.errors import RunHeldError, StorageError, StorageOutageError
from cluster.storage.lease_record import Claim, LeaseRecord, holder_of
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store

_FILE = "lease.json"
_COPY = "lease-copy.json"
_SETTLE_S = 0.5
_POLL_S = 0.2
_ENDING_S = 1.0
"""What a worker that is being ended may take: one that runs on this host for longer is believed to hold its run."""
_LOGGER = logging.getLogger(__name__)


class Lease:
    """A run that this process holds. A context manager: a heartbeat while it lasts, released at its end."""

    def __init__(self, store: Store, record: LeaseRecord) -> None:
        self._patient, self._store = store, store.impatient()
        self._record = record
        self._interval_s = record.ttl_s / 4.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease-heartbeat", daemon=True)

    @property
    def claim(self) -> Claim:
        """What everything stored under this lease carries."""
        return self._record.claim

    @property
    def history(self) -> frozenset[Claim]:
        """The claims whose checkpoints and metrics are believed, this one included."""
        return frozenset(self._record.history)

    def confirm(self) -> None:
        """Raise RunHeldError when the lease is another process's by now.

        A lease that is gone with its copy is nobody's: StorageOutageError, since storage that is away may look empty.
        """
        current = _read(self._store)
        if current is None:
            raise StorageOutageError(
                f"{self._store.uri} has neither {_FILE} nor {_COPY}, which this process has written: storage is away, "
                "or the run was deleted; mount it again, or stop this process"
            )
        if current.claim != self.claim:
            raise RunHeldError(
                f"{self._store.uri} was taken over by another process ({holder_of(current)}); this one stops without "
                "storing more"
            )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            (self._patient if error is None else self._store).retried(self._release)
        except StorageError:
            # Lost, or storage is gone: the next start sees a dead process or a silent heartbeat.
            if error is None:
                raise

    def _release(self) -> None:
        self.confirm()
        self._store.write(_FILE, replace(self._record, released=True).to_bytes())

    def _beat(self) -> None:
        while not self._stop.wait(self._interval_s):
            began = time.monotonic()
            try:
                self.confirm()
                if time.monotonic() - began > self._interval_s:
                    continue  # held up since it was read: another process may have it by now, and must not lose it
                self._record = replace(self._record, heartbeat=self._record.heartbeat + 1)
                self._store.write(_FILE, self._record.to_bytes())
            except RunHeldError:
                return  # the next write finds out by `confirm`
            except StorageError:
                continue  # a short outage costs heartbeats, not the run


def take(store: Store, *, submission: str, driver: ProcessIdentity, ttl_s: float) -> Lease:
    """Take a run's lease, from a holder that ended, fell silent or belongs to the same submission.

    Silent: no heartbeat for `ttl_s`, or for the holder's own where that is longer, on the clock of this process.
    Raises RunHeldError when the holder lives, or when another process took it at the same time. A patient store takes
    it from the beginning after an outage: a claim that was written late could replace another one unseen.
    """
    record = store.retried(lambda: _taken(store.impatient(), submission, driver, ttl_s))
    return Lease(store, record)


def _taken(store: Store, submission: str, driver: ProcessIdentity, ttl_s: float) -> LeaseRecord:
    before = _wait_until_free(store, submission, ttl_s)
    began = time.monotonic()
    history = () if before is None else before.history
    generation = 1 + max((claim[0] for claim in history), default=0)
    token = secrets.token_hex(16)
    record = LeaseRecord(
        generation=generation,
        token=token,
        heartbeat=0,
        ttl_s=ttl_s,
        holder=ProcessIdentity.current(),
        driver=driver,
        submission=submission,
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        released=False,
        history=(*history, (generation, token)),
    )
    store.write(_FILE, record.to_bytes())
    # A taker that read before this write has written, over it, once a few times as long as a write takes have passed.
    time.sleep(max(_SETTLE_S, 3.0 * (time.monotonic() - began)))
    Lease(store, record).confirm()
    store.write(_COPY, record.to_bytes())
    store.remove_abandoned()
    return record


def check_free(store: Store, *, submission: str, ttl_s: float) -> None:
    """Raise RunHeldError when another process holds the run; writes nothing. Waits as `take` does."""
    store.retried(lambda: _wait_until_free(store.impatient(), submission, ttl_s))


def check_not_held_here(store: Store, *, submission: str) -> None:
    """Raise RunHeldError when a process of this host is seen to hold the run; writes nothing, waits a second at most.

    Of a holder elsewhere only its heartbeat tells, which `take` waits for.
    """
    began = time.monotonic()
    while (current := _read(store)) is not None and not _may_take(current, submission):
        if not _lives_here(store, current, current.ttl_s):
            return
        if time.monotonic() - began >= _ENDING_S:
            raise _held(store, current)
        time.sleep(_POLL_S)


def is_abandoned(store: Store) -> bool:
    """Whether nobody holds the run: its lease was released, or is of a process of this host that has ended."""
    current = _read(store)
    return current is not None and (current.released or current.holder.is_dead_here())


def read_history(store: Store) -> frozenset[Claim]:
    """The claims whose checkpoints and metrics are believed."""
    record = _read(store)
    return frozenset() if record is None else frozenset(record.history)


def _wait_until_free(store: Store, submission: str, ttl_s: float) -> LeaseRecord | None:
    """The last record of a lease that may be taken, None where there was none."""
    current = seen = _read(store)
    began = silent_since = time.monotonic()
    while current is not None and not _may_take(current, submission):
        now = time.monotonic()
        patience_s = max(ttl_s, current.ttl_s)
        if seen is None or (current.claim, current.heartbeat) != (seen.claim, seen.heartbeat):
            # A driver that was killed takes its workers down within seconds; until then one of them still beats.
            if not current.driver.is_dead_here() or now - began >= patience_s:
                raise _held(store, current)
            seen, silent_since = current, now
        if now - silent_since >= patience_s:
            return current
        if now - began >= _ENDING_S and _lives_here(store, current, patience_s):
            raise _held(store, current)
        time.sleep(_POLL_S)
        current = _read(store)
    return current


def _may_take(record: LeaseRecord, submission: str) -> bool:
    return record.released or record.submission == submission or record.holder.is_dead_here()


def _lives_here(store: Store, record: LeaseRecord, patience_s: float) -> bool:
    """Whether holder and driver run on this host and the last heartbeat is young: the next need not be waited for."""
    if not record.holder.is_alive_here() or record.driver.is_dead_here():
        return False
    file = store.file(_FILE)
    return file is not None and time.time() - file.mtime_ns / 1e9 < patience_s


def _held(store: Store, record: LeaseRecord) -> RunHeldError:
    return RunHeldError(
        f"{store.uri} is being trained by another process ({holder_of(record)}); wait for it, stop it, or choose "
        "another --name"
    )


def _read(store: Store) -> LeaseRecord | None:
    """The lease, from its copy where it is gone or damaged; None where there is neither.

    When both are damaged it stops the run: to go on without the history would disown every checkpoint.
    """
    damage: Exception | None = None
    for file in (_FILE, _COPY):
        data = store.read_or_none(file)
        if data is None:
            continue
        try:
            record = LeaseRecord.from_bytes(data)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            damage = error
            continue
        if file == _COPY:
            _LOGGER.warning("%s/%s is gone or damaged: going by its copy %s", store.uri, _FILE, _COPY)
        return record
    if damage is None:
        return None
    raise StorageError(
        f"{store.uri}/{_FILE} and its copy are damaged ({damage}): they tell which checkpoints to believe; restore one "
        "of them, or start under another --name from this run's newest weights.safetensors (--model.weights)"
    ) from damage
