"""How rank zero stores a last checkpoint before the workers are ended, because the driver asks for it.

All ranks have the same state at the end of a step, so rank zero stores it alone, and no other rank need agree. Request
and answer pass through Ray's own key-value store: every process reaches it, it costs no process of its own, and a step
costs nothing, since a thread looks there now and then.
"""

# Ray's store carries no types here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from ray.experimental import internal_kv

_LOOK_EVERY_S = 0.5
_POLL_S = 0.1
_NAMESPACE = "resnet-dist"
_LISTENS, _REQUESTED, _STORED = "listens", "requested", "stored"


class EndedOnRequestError(Exception):
    """Rank zero has stored a last checkpoint and trains no further: the driver ends the workers."""


@dataclass(frozen=True)
class LastCheckpoint:
    """The driver's side: one request, to every rank zero that listens to its key."""

    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def request(self, seconds: float, goes_on: Callable[[], bool], say: Callable[[str], None]) -> int | None:
        """Ask for it and wait, for `seconds` at most and while `goes_on`; its step, None where none was stored.

        Where nobody listens, since nothing is being trained yet, it does not wait. Ray is asked in another thread: if
        Ray does not answer, a signal still ends this.
        """
        found: list[int] = []
        until = time.monotonic() + seconds
        thread = threading.Thread(target=self._request, args=(found, until, say), daemon=True, name="last-checkpoint")
        thread.start()
        while thread.is_alive() and time.monotonic() < until and goes_on():
            thread.join(_POLL_S)
        thread.join(_POLL_S)  # workers end once it is stored, perhaps before the answer was read
        return found[0] if found else None

    def send(self) -> None:
        """Ask for it without waiting. May wait for a Ray that does not answer."""
        _put(self.key, _REQUESTED)

    def forget(self) -> None:
        """Nobody asks any more."""
        with suppress(Exception):
            internal_kv._internal_kv_del(self.key, del_by_prefix=True, namespace=_NAMESPACE)

    def _request(self, found: list[int], until: float, say: Callable[[str], None]) -> None:
        with suppress(Exception):  # no Ray, no checkpoint
            if _get(self.key, _LISTENS) is None:
                return
            say(
                f"storing a last checkpoint, for {until - time.monotonic():.0f} s at most; a second signal ends at once"
            )
            self.send()
            while time.monotonic() < until:
                if (step := _get(self.key, _STORED)) is not None:
                    found.append(int(step))
                    return
                time.sleep(_POLL_S)


class Requests:
    """Rank zero's side: a context manager, within which `pending` says whether the driver asks."""

    def __init__(self, key: str | None) -> None:
        """`key` of the driver's LastCheckpoint; None: nobody ever asks."""
        self._key = key
        self._pending = threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="checkpoint-requests")

    @property
    def pending(self) -> bool:
        """Whether training is to end with the state that this step leaves."""
        return self._pending.is_set()

    def answer(self, step: int) -> None:
        """The checkpoint of this step is stored."""
        if self._key is not None:
            _put(self._key, _STORED, str(step))

    def __enter__(self) -> Self:
        if self._key is not None:
            _put(self._key, _LISTENS)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        if self._key is None:
            return
        self._thread.join(1.0)
        with suppress(Exception):
            internal_kv._internal_kv_del(f"{self._key}/{_LISTENS}", namespace=_NAMESPACE)

    def _look(self) -> None:
        while not self._end.wait(_LOOK_EVERY_S):
            with suppress(Exception):  # Ray does not answer; if it never does, the workers end anyway
                if self._key is not None and _get(self._key, _REQUESTED) is not None:
                    self._pending.set()
                    return


def _put(key: str, name: str, value: str = "") -> None:
    internal_kv._internal_kv_put(f"{key}/{name}", value, namespace=_NAMESPACE)


def _get(key: str, name: str) -> bytes | None:
    return internal_kv._internal_kv_get(f"{key}/{name}", namespace=_NAMESPACE)
