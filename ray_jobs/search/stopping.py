"""When a search ends before its trials are used up: its budget is spent, a signal ends it, or no slot is left."""

# Ray Tune carries no types.
# pyright: reportUntypedBaseClass=false

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from ray.tune.stopper import NoopStopper

from cluster.session.servers import death
from ray_jobs.search.actors import DispatcherClient
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.dispatcher import Dispatcher
from ray_jobs.search.optuna_study import Unsaved
from ray_jobs.search.records import EndedBy
from ray_jobs.search.supervisors import Supervisors
from ray_jobs.search.trial_log import TrialLog
from ray_jobs.terminal.end_signals import hears, interrupt_of
from ray_jobs.training.last_checkpoint import LastCheckpoint


class SearchStopper(Unsaved, NoopStopper):
    """Ends the search when its budget is spent, when a signal does, or when no slot is left."""

    def __init__(
        self,
        trial_log: TrialLog,
        dispatcher: DispatcherClient,
        config: SearchConfig,
        began: float,
        supervisors: Supervisors,
        last_checkpoint: LastCheckpoint | None,
    ) -> None:
        """`last_checkpoint` is asked of all slots when a signal ends the search; None: none is."""
        self.ended_by: KeyboardInterrupt | None = None
        """What stands for the signal that ends the search."""
        self._last_checkpoint = last_checkpoint
        self._trial_log, self._dispatcher, self._supervisors = trial_log, dispatcher, supervisors
        self._most_epochs = config.total_epochs
        self._until = None if config.hours is None else began + 3600.0 * config.hours

    def stop_all(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride] - Ray states no type
        """Whether the search ends now. Ray Tune asks many times a second, so supervisors are replaced here, too."""
        if self._trial_log.is_closing:
            return True
        self._supervisors.look()
        reason = self._reason()
        if reason is None:
            return False
        self._trial_log.close(reason)
        if reason == "interrupt" and self._last_checkpoint is not None:
            # A thread: if Ray does not answer, the search still ends.
            threading.Thread(target=self._last_checkpoint.send, daemon=True, name="last-checkpoint").start()
        self._dispatcher.send(Dispatcher.close, reason)  # trials that wait for their workers hear it, and end
        return True

    def _reason(self) -> EndedBy | None:
        if self.ended_by is not None:
            return "interrupt"
        if self._supervisors.failure:
            return "workers"
        if self._most_epochs is not None and self._trial_log.epochs >= self._most_epochs:
            return "total_epochs"
        return "hours" if self._until is not None and time.time() >= self._until else None

    @contextmanager
    def hears_signals(self) -> Generator[None]:
        """Within, the first Ctrl-C or SIGTERM ends the search in order, and a second one at once."""

        def end(number: int) -> None:
            if self.ended_by is not None or death() is not None:
                raise interrupt_of(number)
            self.ended_by = interrupt_of(number)

        with hears(end):
            yield
