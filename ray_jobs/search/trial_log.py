"""Ray Tune's events become trial records, on storage as soon as they happen."""

# Ray Tune's trials carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUntypedBaseClass=false, reportUnknownParameterType=false

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ray import tune

from cluster.session.servers import leave_if_dead
from ray_jobs.search.actors import SearchActorDiedError, SearchActors
from ray_jobs.search.dispatcher import Dispatcher, TrialTimes
from ray_jobs.search.known_trials import KnownTrials
from ray_jobs.search.live_table import LiveTable
from ray_jobs.search.optuna_study import Unsaved
from ray_jobs.search.parameter import Params
from ray_jobs.search.records import EndedBy, Epoch, SearchDirectory, TrialRecord, TrialState, digest_of, repeated
from ray_jobs.search.results import SearchFacts, SlotPool, kept_trials, ranked, write_results
from ray_jobs.search.trainable import params_of, values_of

_RESULTS_EVERY_S = 15.0


@dataclass(frozen=True)
class Begun:
    """When a search began, and what has befallen it since this command did."""

    first: float
    """Seconds since 1970, as are all times here."""
    here: float
    """When this command began."""
    died: set[str] = field(default_factory=set[str])
    """Digests of trials whose own process has died once."""


class TrialLog(Unsaved, tune.Callback):
    """Keeps every trial's record, tells the dispatcher when a trial is over, and drops the losers' checkpoints."""

    def __init__(
        self,
        directory: SearchDirectory,
        facts: SearchFacts,
        records: list[TrialRecord],
        begun: Begun,
        actors: SearchActors,
        journal: Path,
        table: LiveTable,
    ) -> None:
        self.records = {record.digest: record for record in records}
        self.is_closing = False
        """Trials that end now are unfinished, not ended early."""
        self.closed_by: EndedBy | None = None
        self._directory = directory
        self._facts = facts
        self._begun = begun
        self._dispatcher, self._known_trials = actors.dispatcher, actors.known_trials
        self._journal = journal
        self._table = table
        self._default = digest_of(facts.space.default(facts.job))
        self._undropped: set[str] = {record.digest for record in records if record.is_over}
        self._results_at = 0.0
        self.importance: Callable[[], dict[str, float] | None] = lambda: None

    @property
    def ordered(self) -> list[TrialRecord]:
        """All records, by number."""
        return sorted(self.records.values(), key=lambda record: record.number)

    @property
    def epochs(self) -> int:
        """Epochs trained so far, of all starts."""
        return sum(len(record.history) for record in self.records.values())

    def suggested(self, params: Params) -> None:
        """A trial is about to begin or to go on. A new one gets its number now, in the order of the study."""
        digest = digest_of(params)
        if digest not in self.records:
            number = 1 + max((record.number for record in self.records.values()), default=-1)
            self._write(TrialRecord(number, params, is_default=digest == self._default))
        elif self.records[digest].state == "running" and self.records[digest].ended_by is not None:
            self._write(replace(self.records[digest], ended_by=None))
        self._table.refresh(self.ordered)

    def close(self, by: EndedBy | None = None) -> None:
        """From now on trials end because the search does, and not for their values."""
        self.is_closing, self.closed_by = True, self.closed_by or by

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        result: dict[str, Any],
        **_: Any,
    ) -> None:
        """The trial has trained one more epoch, which the run has stored. The record is written at the trial's end."""
        record = self.records[digest_of(params_of(trial.config))]
        if record.is_over:
            return
        history = tuple(each for each in record.history if each["epoch"] < result["epoch"])
        if result["epoch"]:
            epoch: Epoch = {key: float(value) for key, value in result.items() if key.startswith("val/")}
            history = (*history, {"epoch": float(result["epoch"]), **epoch})
        values = values_of(self._facts.config.objectives, history, json.loads(result.get("results", "{}")))
        self.records[record.digest] = replace(record, history=history, values=values)
        self._table.refresh(self.ordered)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002
        """A trial is over, or is left for the next start because the search ends."""
        result: dict[str, Any] = trial.last_result or {}
        record = self.records[digest_of(params_of(trial.config))]
        if record.is_over:  # answered by its record, however much of that was replayed
            self._write(repeated(record))
            return
        reported = result.get("state", "running")
        state: TrialState = reported
        if reported == "closed" or (reported == "running" and self.is_closing):
            state = "running"
        elif reported == "running":  # it would have gone on: the scheduler has ended it
            state = "stopped"
        self._over(record, state, result.get("error", ""), json.loads(result.get("results", "{}")))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:  # noqa: ARG002
        """A trial's process ended: where it is the second time, record its error, and the search goes on.

        One that only waited for an equal trial is none. Raises KeyboardInterrupt where Ray itself has died,
        RayDiedError where an actor of the search has, and where this trial's process did the first time: that says
        nothing of the trial, which goes on from its last checkpoint when the search does.
        """
        leave_if_dead()
        record = self.records[digest_of(params_of(trial.config))]
        if record.is_over or not self._known_trials.call(KnownTrials.is_trained_by, record.digest, trial.trial_id):
            self._write(repeated(record))
            return
        if not self.is_closing and record.digest not in self._begun.died:
            self._begun.died.add(record.digest)
            raise SearchActorDiedError(f"the process that followed trial {record.number} has ended")
        # Training reports its failures as results, so this is another one, and its cause has not arrived here yet.
        error = "the process that followed the trial ended; start the search again to go on with others"
        self._over(record, "running" if self.is_closing else "failed", error, {})

    def finish(self, pool: SlotPool, judge: Callable[[TrialRecord, TrialRecord], dict[str, Any] | None]) -> None:
        """Write all results once the worker groups are gone; `judge` compares the best trial with the default."""
        for digest, results in self._dispatcher.call(Dispatcher.results).items():
            record = self.records[digest]
            if record.reuse is None and (reuse := _reuse(results)):
                self._write(replace(record, reuse=reuse))
        for record in self.ordered:
            if not record.is_over:
                self._leave(record)
        self._drop_losers(wait=True)
        self._upload_journal()
        write_results(self._directory, self._facts, self.ordered, pool, None)  # before what may be interrupted
        best = ranked(self._facts.config, self.ordered)[:1]
        default = [record for record in self.ordered if record.is_default and record.values]
        test = judge(best[0], default[0]) if best and default else None
        write_results(self._directory, self._facts, self.ordered, pool, self.importance(), test)

    def _over(self, record: TrialRecord, state: TrialState, error: str, results: dict[str, float]) -> None:
        by: EndedBy | None = "scheduler" if state == "stopped" else self.closed_by if state == "running" else None
        self._dispatcher.call(Dispatcher.release, record.digest, by)
        times = self._dispatcher.call(Dispatcher.times, record.digest) or TrialTimes(None, time.time(), None, None)
        reuse = _reuse(results) or record.reuse
        record = replace(record, state=state, ended_by=by, error=error[:2000], reuse=reuse)
        record = self._timed(record, times)
        self._write(record)
        self._known_trials.call(KnownTrials.over, record)
        if record.is_over:
            self._undropped.add(record.digest)
            self._table.ended(record, self.ordered)
        self._drop_losers(wait=False)
        self._upload_journal()
        if time.monotonic() - self._results_at > _RESULTS_EVERY_S:
            self._results_at = time.monotonic()
            slots = len({each.slot for each in self.records.values() if each.slot is not None})
            write_results(
                self._directory, self._facts, self.ordered, SlotPool(slots, time.time() - self._begun.first, 0.0), None
            )

    def _leave(self, record: TrialRecord) -> None:
        """Record what ends the search before this trial is over: Ray Tune does not report such trials."""
        times = self._dispatcher.call(Dispatcher.times, record.digest)
        if self.closed_by is None or (times is None and record.ended_by is not None):
            return  # not begun again since it was left
        record = replace(record, ended_by=self.closed_by)
        self._write(record if times is None else self._timed(record, times))
        self._table.ended(record, self.ordered)

    def _timed(self, record: TrialRecord, times: TrialTimes) -> TrialRecord:
        return replace(
            record,
            slot=times.slot,
            queued_s=times.queued - self._begun.first,
            started_s=None if times.started is None else times.started - self._begun.first,
            ended_s=(times.ended or time.time()) - self._begun.first,
        )

    def _write(self, record: TrialRecord) -> None:
        self.records[record.digest] = record
        self._directory.write_trial(record)

    def _drop_losers(self, *, wait: bool) -> None:
        """Remove losers' checkpoints, but only once a trial's workers have ended: they still write to its folder."""
        if self._facts.job.checkpoint.keep_losers:
            return
        kept = kept_trials(self._facts.config, self.ordered)
        for digest in sorted(self._undropped - kept):
            if wait or self._has_ended(digest):
                self._directory.drop_checkpoints(digest)
                self._undropped.discard(digest)

    def _has_ended(self, digest: str) -> bool:
        times = self._dispatcher.call(Dispatcher.times, digest)
        return times is None or times.ended is not None

    def _upload_journal(self) -> None:
        if self._journal.exists():
            self._directory.store.write("study.journal", self._journal.read_bytes())


def _reuse(results: dict[str, float]) -> dict[str, float] | None:
    found = {name.removeprefix("reuse/"): value for name, value in results.items() if name.startswith("reuse/")}
    return found or None
