"""Storage that is away for a while: how long a command waits for it. Which errors say so stands in `failure.py`."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

from cluster.errors import StorageBusyError, StorageError, StorageOutageError

T = TypeVar("T")
Say = Callable[[str], None]

_AT_START_S = 30.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_CHANCE = secrets.SystemRandom()


def nobody_holds() -> None:
    """What needs no lease is confirmed by nobody."""


@dataclass(frozen=True)
class Patience:
    """How long an outage is waited out, and what happens before the first try afterwards."""

    limit_s: float
    say: Say
    """Hears that storage is away, and that it is there again."""
    confirm: Callable[[], None] = nobody_holds
    """Raises RunHeldError where another process has taken over meanwhile: then nothing is written."""
    busy_only: bool = False
    """Whether storage that does not answer at all is given up at once."""

    @classmethod
    def at_start(cls, outage_s: float, say: Say) -> Self:
        """For the start of a command: what does not answer then has a wrong address more often than an outage."""
        return cls(min(outage_s, _AT_START_S), say, busy_only=True)

    def wait_out(self, action: Callable[[], T], given_up: threading.Event | None = None) -> T:
        """The action's result, tried again while storage is away; once `given_up` is set there is no other try.

        Raises StorageOutageError when that lasts for longer than `limit_s`, and at once what is no outage.
        """
        try:
            return action()
        except StorageOutageError as error:
            if not self._is_worth_waiting(error):
                raise
            return self._waited(action, error, given_up or threading.Event())

    def _is_worth_waiting(self, error: StorageOutageError) -> bool:
        return self.limit_s > 0 and (isinstance(error, StorageBusyError) or not self.busy_only)

    def _waited(self, action: Callable[[], T], error: StorageOutageError, given_up: threading.Event) -> T:
        began, pause_s, is_said = time.monotonic(), _FIRST_PAUSE_S, False

        def there_again() -> None:
            if is_said:
                self.say(f"storage is there again after {time.monotonic() - began:.1f} s")

        while True:
            left_s = began + self.limit_s - time.monotonic()
            if left_s <= 0 and self.busy_only:
                raise error
            if left_s <= 0:
                raise type(error)(
                    f"{error}\nstorage was away for longer than storage.outage_s={self.limit_s:g} allows; what was "
                    "stored before is intact: repair it, then start the same command again"
                ) from error
            # Each pause is shorter by chance, so that many clients do not come back at once.
            if given_up.wait(min(pause_s * _CHANCE.uniform(0.5, 1.0), left_s)):
                raise error
            pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
            try:
                self.confirm()
                result = action()
            except StorageOutageError as again:
                error = again
                if not is_said:
                    is_said = True
                    self.say(f"storage is away ({error}); waiting for at most {self.limit_s:g} s")
            except StorageError:
                there_again()  # it answers, if only to refuse
                raise
            else:
                there_again()
                return result
