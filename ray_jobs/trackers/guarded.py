"""Stands between a run and its tracker: a tracker that fails, hangs or is slow never stops or delays the run."""

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

from cluster.storage.credentials import address_without_secret, without_secrets
from ray_jobs.trackers.tracker import ExitState, Plain, Tracker, TrackerError

_CAPACITY = 1000
_PATIENCE_S = 60.0
_SECRETS = ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


class GuardedTracker:
    """Calls a tracker on a thread of its own, through a queue that forgets its oldest call when it is full.

    No method raises, and none waits but `finish`, at most `finish_s`. The first failure becomes a message, and the
    tracker is off from then on.
    """

    def __init__(
        self,
        kind: str,
        make: Callable[[], Tracker] | None,
        finish_s: float,
        patience_s: float = _PATIENCE_S,
        capacity: int = _CAPACITY,
    ) -> None:
        """`make` is called on the thread too; None for a tracker that does nothing."""
        self._kind = kind
        self._make = make
        self._finish_s = finish_s
        self._patience_s = patience_s
        self._capacity = capacity
        self._changed = threading.Condition()
        self._calls: deque[Callable[[Tracker], str | None]] = deque()
        self._called_at: float | None = None
        self._closing = False
        self._dropped = 0
        self._messages: list[str] = []
        self._link = ""
        self._thread: threading.Thread | None = None

    @property
    def link(self) -> str:
        """URL or path of the run at the tracker; empty before it has started and where there is none.

        It stays when the tracker fails later: what it took is still there. A call that does not come back is
        noticed here too.
        """
        with self._changed:
            self._notice_hang()
            return self._link

    def take_messages(self) -> list[str]:
        """What there is to say since the last call; lines for the run's log."""
        with self._changed:
            taken, self._messages = self._messages, []
            return taken

    def start(self) -> None:
        """Begin the run at the tracker."""
        if self._make is None:
            return

        def call(tracker: Tracker) -> str | None:
            message = tracker.start()
            with self._changed:
                self._link = _without_secrets(tracker.link)
            return message

        self._submit(call)
        # A daemon: a call that never returns must not keep the process.
        self._thread = threading.Thread(
            target=self._work, args=(self._make,), name=f"tracker-{self._kind}", daemon=True
        )
        self._thread.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step."""
        numbers = dict(metrics)
        self._submit(lambda tracker: tracker.log(step, numbers))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Plain]]) -> None:
        """Show a table."""
        self._submit(lambda tracker: tracker.table(name, columns, rows))

    def epoch_done(self) -> None:
        """Make durable what was logged so far."""
        self._submit(lambda tracker: tracker.epoch_done())

    def finish(self, state: ExitState) -> None:
        """Send what is left and say how the run ended; gives up after `finish_s`."""
        self._submit(lambda tracker: tracker.finish(state))
        with self._changed:
            thread, is_on = self._thread, self._make is not None
            self._closing = True
            self._changed.notify_all()
        if thread is not None and is_on:
            thread.join(self._finish_s)
            with self._changed:
                if thread.is_alive():
                    self._turn_off(f"it did not take everything within tracker.finish_s={self._finish_s:g} s")
                elif self._dropped:
                    self._messages.append(
                        f"tracker.kind={self._kind} was too slow for {self._dropped} calls, the oldest of their time; "
                        "the run's own metrics are whole"
                    )

    def _submit(self, call: Callable[[Tracker], str | None]) -> None:
        with self._changed:
            self._notice_hang()
            if self._make is None or self._closing:
                return
            if len(self._calls) >= self._capacity:
                self._calls.popleft()
                self._dropped += 1
            self._calls.append(call)
            self._changed.notify_all()

    def _work(self, make: Callable[[], Tracker]) -> None:
        tracker: Tracker | None = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._calls or self._closing or self._make is None)
                if not self._calls:
                    return
                call = self._calls.popleft()
                self._called_at = monotonic()
            try:
                tracker = tracker or make()
                message = call(tracker)
            except BaseException as error:  # a library that asks the process to exit must not end a run either
                with self._changed:
                    self._turn_off(_reason(error))
                return
            with self._changed:
                self._called_at = None
                if message:
                    self._messages.append(_without_secrets(message))

    def _notice_hang(self) -> None:
        if self._called_at is not None and monotonic() - self._called_at > self._patience_s:
            self._turn_off(f"it has not answered for {self._patience_s:g} s; check its server and the connection")

    def _turn_off(self, reason: str) -> None:
        """Said once. The lock is held."""
        if self._make is None:
            return
        self._make, self._called_at = None, None
        self._calls.clear()
        self._messages.append(
            f"tracker.kind={self._kind} is off: {_without_secrets(reason)}; training goes on without it "
            "(--tracker.kind none leaves it out)"
        )
        self._changed.notify_all()


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return lines[0] if isinstance(error, TrackerError) else f"{type(error).__name__}: {lines[0][:500]}"


def _without_secrets(text: str) -> str:
    """Errors of web clients quote addresses and headers; a log is read by more people than may know those."""
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "...")
    if address := os.environ.get("MLFLOW_TRACKING_URI"):
        text = text.replace(address, address_without_secret(address))
    return without_secrets(text)
