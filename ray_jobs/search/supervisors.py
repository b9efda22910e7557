"""The supervisors of a search's slots, watched from the driver: a supervisor that is killed cannot report it."""

# Ray's tasks carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError

from cluster.errors import RayDiedError
from cluster.session.placement_groups import remove_orphans
from cluster.session.resources import WorkerPlan
from cluster.session.servers import leave_if_dead
from ray_jobs.errors import first_line
from ray_jobs.search.actors import SearchActors
from ray_jobs.search.dispatcher import Dispatcher, TrialEvent
from ray_jobs.search.slots import keep_serving

_ENDING_S = 20.0
_ORPHANS_EVERY_S = 1.0


class Supervisors:
    """One for each slot, as running tasks of Ray."""

    def __init__(
        self, slot: Any, plan: WorkerPlan, slots: int, actors: SearchActors, say: Callable[[str], None]
    ) -> None:
        """`slot` is a reference to the workers' Slot; `say` shows a line to the user."""
        # Ray resolves a reference that is an argument, but not one in a list: supervisors do not need the Slot itself.
        self._slot, self._plan, self._say = [slot], plan, say
        self._actors, self._dispatcher = actors, actors.dispatcher
        self._task: Any = ray.remote(keep_serving).options(num_cpus=0, max_retries=0)
        self._slots: dict[Any, int] = {self._start(number): number for number in range(slots)}
        self._orphans_at = 0.0
        self.failure: str = ""
        """Why no slot is left; empty while there is one."""

    def look(self) -> None:
        """Replace each supervisor that was killed, unless its slot is to be given up. Not while the dispatcher closes.

        Placement groups of worker groups whose supervisor or controller has died are removed, so that new ones fit.
        Raises RayDiedError where one of the search's actors has died, KeyboardInterrupt where Ray itself has.
        """
        leave_if_dead()
        if time.monotonic() - self._orphans_at > _ORPHANS_EVERY_S:
            self._orphans_at = time.monotonic()
            remove_orphans()
            self._actors.require_life()
        for task in self._ended(0.0):
            slot = self._slots.pop(task)
            try:
                error: str = ray.get(task) or "its workers ended while there were trials left"
            except RayError as failure:
                error = f"its supervisor ended: {first_line(failure)}"
                if self._dispatcher.call(Dispatcher.abandoned, slot, TrialEvent("lost", error=error)):
                    self._say(f"slot {slot}: {error}; another one starts")
                    self._slots[self._start(slot)] = slot
                    continue
            self._say(f"slot {slot} is given up: {error}; {len(self._slots)} left")
            if not self._slots:
                self.failure = error

    def end(self) -> None:
        """Let workers store what they have, and cancel supervisors that do not end by themselves."""
        with suppress(RayError, RayDiedError):
            self._dispatcher.call(Dispatcher.close)
        for task in self._ended(_ENDING_S):
            self._slots.pop(task)
        for task in self._slots:
            ray.cancel(task, force=True)
        self._ended(_ENDING_S)

    def _start(self, slot: int) -> Any:
        return self._task.remote(self._slot, self._plan, self._dispatcher, slot)

    def _ended(self, timeout_s: float) -> list[Any]:
        tasks = list(self._slots)
        return ray.wait(tasks, num_returns=len(tasks), timeout=timeout_s)[0] if tasks else []
