"""An actor that hands trials to worker groups, and passes on what becomes of them.

A worker group serves one trial after the other, so it starts once and not once for each trial; a trial goes to
whichever group is free, so it never waits for one that finds no room. This process
needs no torch, and loads none.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from ray_jobs.job.config import JobConfig
from ray_jobs.search.records import EndedBy, Epoch

MOST_LOST = 3
"""Worker groups in a row, or supervisors of one, that may end without a trial served before their slot is given up."""


@dataclass(frozen=True)
class TrialOrder:
    """A trial to be trained."""

    digest: str
    job: JobConfig
    """Resolved, with the trial's parameters."""
    most_per_microbatch: int | None = None
    """A microbatch size that the memory of an earlier attempt has shown to be the most."""


@dataclass(frozen=True)
class TrialEvent:
    """What has happened to a trial."""

    kind: Literal["epoch", "finished", "stopped", "diverged", "failed", "lost", "too_large", "closed"]
    """epoch: it has trained one more; lost: its worker group ended; too_large: its microbatch does not fit into memory;
    closed: the search ends."""
    epoch: Epoch = field(default_factory=dict[str, float])
    error: str = ""
    results: dict[str, float] = field(default_factory=dict[str, float])
    """Measured once, at the end: "latency_ms", "parameters", "reuse/...", "microbatch"."""


@dataclass(frozen=True)
class TrialTimes:
    """Seconds since 1970."""

    slot: int | None
    queued: float
    started: float | None
    ended: float | None


@dataclass
class _Trial:
    order: TrialOrder
    events: deque[TrialEvent] = field(default_factory=deque[TrialEvent])
    group: tuple[int, int] | None = None
    allowed: float = 0
    """The last epoch after which it may go on."""
    released: bool = False
    released_by: EndedBy | None = None
    is_over: bool = False
    results: dict[str, float] = field(default_factory=dict[str, float])
    queued: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None

    def add(self, event: TrialEvent) -> None:
        self.events.append(event)


class Dispatcher:
    """One for a search. Every method may be called from any process; those that wait do so without blocking others."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._waiting: deque[_Trial] = deque()
        self._trials: dict[str, _Trial] = {}
        self._taken: dict[tuple[int, int, int], _Trial] = {}
        self._groups_served: set[tuple[int, int]] = set()
        self._groups_lost: set[tuple[int, int]] = set()
        self._lost_in_a_row: dict[int, int] = {}
        self._groups: dict[int, int] = {}
        self._first_take: dict[int, float] = {}
        self._began: dict[int, float] = {}
        self._closed = False
        self._closed_by: EndedBy | None = None

    async def open_slot(self, slot: int) -> int:
        """A slot is about to start a worker group: its number, from 1 on, whoever supervises the slot."""
        self._began.setdefault(slot, time.time())
        self._groups[slot] = self._groups.get(slot, 0) + 1
        return self._groups[slot]

    async def submit(self, order: TrialOrder) -> None:
        """Queue a trial, also one that was lost before."""
        async with self._changed:
            before = self._trials.get(order.digest)
            trial = _Trial(order)
            if before is not None:
                trial.queued, trial.started = before.queued, before.started
                trial.allowed = before.allowed  # epochs that are trained again from the last checkpoint are allowed
            self._trials[order.digest] = trial
            self._waiting.append(trial)
            self._changed.notify_all()

    async def next_event(self, digest: str, after: float = 0.0) -> TrialEvent:
        """The trial's next event, once there is one. The trial may train on after the epoch `after`."""
        if after:
            await self.go_on(digest, after)
        trial = self._trials[digest]
        await self._until(lambda: bool(trial.events) or self._closed)
        return trial.events.popleft() if trial.events else TrialEvent("closed")

    async def go_on(self, digest: str, epoch: float) -> None:
        """The trial may train another epoch after this one."""
        async with self._changed:
            self._trials[digest].allowed = epoch
            self._changed.notify_all()

    async def release(self, digest: str, by: EndedBy | None) -> None:
        """The search has no more use for the trial, submitted or not; `by` names what ended it, if anything did."""
        async with self._changed:
            trial = self._trials.get(digest)
            if trial is not None:
                trial.released, trial.released_by = True, by
                if trial in self._waiting:
                    self._waiting.remove(trial)
            self._changed.notify_all()

    async def ended_by(self, digest: str) -> EndedBy | None:
        """What ended a trial before its training did; None where nothing has."""
        trial = self._trials[digest]
        return trial.released_by if trial.released else self._closed_by

    async def times(self, digest: str) -> TrialTimes | None:
        """When the trial was queued, begun and ended, and in which slot; None for one that was never submitted."""
        trial = self._trials.get(digest)
        if trial is None:
            return None
        return TrialTimes(None if trial.group is None else trial.group[0], trial.queued, trial.started, trial.ended)

    async def results(self) -> dict[str, dict[str, float]]:
        """What was measured at the end of each trial, by digest."""
        return {digest: trial.results for digest, trial in self._trials.items() if trial.results}

    async def startup_s(self) -> list[float]:
        """Seconds that each slot's first worker group took to start; slots without one are left out."""
        return [took - self._began[slot] for slot, took in self._first_take.items()]

    async def close(self, by: EndedBy | None = None) -> None:
        """Hand out no more trials, and tell all that wait; `by` names what ends trials before their training does."""
        async with self._changed:
            self._closed, self._closed_by = True, self._closed_by or by
            self._changed.notify_all()

    async def take(self, slot: int, group: int, turn: int) -> TrialOrder | None:
        """The trial that a worker group serves as its `turn`-th: the same on every rank. None: there are no more.

        A group may be lost while it waits: it is given none.
        """
        key, whose = (slot, group, turn), (slot, group)
        self._first_take.setdefault(slot, time.time())
        await self._until(
            lambda: key in self._taken or self._closed or bool(self._waiting) or whose in self._groups_lost
        )
        if whose in self._groups_lost:
            return None
        if key not in self._taken:
            if self._closed:
                return None
            trial = self._waiting.popleft()
            self._taken[key] = trial
            self._groups_served.add(whose)
            trial.group, trial.started = whose, trial.started or time.time()
        return self._taken[key].order

    async def epoch_done(self, digest: str, epoch: Epoch, *, is_last: bool) -> bool:
        """Pass an epoch on; True if the trial goes on, once the search has decided. After the last it does not wait."""
        trial = self._trials[digest]
        async with self._changed:
            trial.add(TrialEvent("epoch", epoch))
            self._changed.notify_all()
        if is_last:
            return True
        await self._until(lambda: trial.allowed >= epoch["epoch"] or trial.released or self._closed)
        return trial.allowed >= epoch["epoch"] and not trial.released

    async def resumed(self, digest: str, epochs: list[Epoch]) -> None:
        """Pass on the epochs that were trained before."""
        trial = self._trials[digest]
        async with self._changed:
            for epoch in epochs:
                trial.add(TrialEvent("epoch", epoch))
            self._changed.notify_all()

    async def ended(self, digest: str, event: TrialEvent) -> None:
        """Pass on how the trial ended."""
        await self._end(self._trials[digest], event)

    async def lost(self, slot: int, group: int, event: TrialEvent) -> bool:
        """A worker group has ended with an error. True if its slot should start another one."""
        whose = (slot, group)
        served = whose in self._groups_served and whose not in self._groups_lost
        self._groups_lost.add(whose)
        for (owner, number, _), trial in list(self._taken.items()):
            if (owner, number) == whose and not trial.is_over:
                await self._end(trial, event)
        async with self._changed:
            self._lost_in_a_row[slot] = 0 if served else self._lost_in_a_row.get(slot, 0) + 1
            self._changed.notify_all()
            return self._lost_in_a_row[slot] < MOST_LOST and not self._closed

    async def abandoned(self, slot: int, event: TrialEvent) -> bool:
        """A slot's supervisor has ended, and its worker group with it. True if the slot should get another one."""
        return await self.lost(slot, self._groups.get(slot, 0), event)

    async def _end(self, trial: _Trial, event: TrialEvent) -> None:
        async with self._changed:
            trial.is_over, trial.ended, trial.results = True, time.time(), event.results
            trial.add(event)
            self._changed.notify_all()

    async def _until(self, holds: Callable[[], Any]) -> None:
        async with self._changed:
            await self._changed.wait_for(holds)
