"""When a search ends before its trials are used up: its budget is spent, or a person asks for it."""

# Ray Tune carries no types.
# pyright: reportUntypedBaseClass=false

import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ray import tune

from ray_jobs.search.actors import Actor
from ray_jobs.search.book import SearchBook
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.unsaved import Unsaved


class Ending(Unsaved, tune.Stopper):
    """Ends the search when its budget is spent, or when a person asks for it."""

    def __init__(self, book: SearchBook, desk: Actor, config: SearchConfig, began: float) -> None:
        self.interrupted = False
        self._book, self._desk = book, desk
        self._most_epochs = config.total_epochs
        self._until = None if config.hours is None else began + 3600.0 * config.hours

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        """No trial is ended alone."""
        return False

    def stop_all(self) -> bool:
        """Whether the search ends now."""
        spent = self._most_epochs is not None and self._book.epochs >= self._most_epochs
        late = self._until is not None and time.time() >= self._until
        if not (self.interrupted or spent or late):
            return False
        if not self._book.is_closing:
            self._book.is_closing = True
            self._desk.close.remote()  # trials that wait for their workers hear it, and end
        return True

    @contextmanager
    def hears_interrupts(self) -> Generator[None]:
        """Within, the first Ctrl-C ends the search in order, and a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def interrupt(*_: object) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
