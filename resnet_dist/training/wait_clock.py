"""How long a loop waits for what it iterates over."""

from collections.abc import Iterator
from time import perf_counter
from typing import TypeVar

_T = TypeVar("_T")


class WaitClock:
    """Adds up the time until each item is there, over one iterator or several nested ones."""

    def __init__(self) -> None:
        self.latest = 0.0
        """Seconds that the latest item took."""
        self._seconds = 0.0

    def timed(self, items: Iterator[_T]) -> Iterator[_T]:
        """The items, timed."""
        while True:
            start = perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self.latest = perf_counter() - start
                self._seconds += self.latest
            yield item

    def take(self) -> float:
        """Seconds since the last call of this."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds
