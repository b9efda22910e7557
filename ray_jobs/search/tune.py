"""`resnet-dist tune`: searches for a better configuration than the default, within a budget."""

import time
import uuid
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from cluster.errors import RayDiedError
from cluster.session.environment import environment_defaults
from cluster.session.scratch import scratch_folder
from cluster.session.servers import require_life
from cluster.session.session import ray_session
from cluster.storage.lease import take
from cluster.storage.outage_watch import storage_watched
from cluster.storage.process_identity import ProcessIdentity
from data_pipeline.splits.assign import write_split_csv
from ray_jobs.errors import ConfigError, JobFailedError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.report.search_record import Comparison
from ray_jobs.search.actors import SearchActors
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.dispatcher import MOST_LOST, Dispatcher
from ray_jobs.search.final_test import final_test
from ray_jobs.search.live_table import LiveTable
from ray_jobs.search.optuna_study import Draws, StudySearch, importances
from ray_jobs.search.prepare import SearchStart, prepare_search, slot_of
from ray_jobs.search.records import SearchDirectory, TrialRecord
from ray_jobs.search.repair import repair_results, restore_records, stored_test
from ray_jobs.search.report_page import run_report
from ray_jobs.search.results import BEST, SearchFacts, SlotPool, ranked
from ray_jobs.search.space import Space
from ray_jobs.search.starting_points import first_draw, initial_params, trials_left, warm_trials
from ray_jobs.search.stopping import SearchStopper
from ray_jobs.search.supervisors import Supervisors
from ray_jobs.search.toml import print_search
from ray_jobs.search.trial_log import Begun, TrialLog
from ray_jobs.search.tuner import QUIET, run_tuner
from ray_jobs.terminal.watcher import note
from ray_jobs.training.last_checkpoint import LastCheckpoint
from ray_jobs.training.restart_policy import Past, Raise, Restart, after_death
from ray_jobs.training.warning_lines import taught_images
from resnet_dist.errors import RunError


@dataclass(frozen=True)
class SearchOutcome:
    """The result of a search."""

    uri: str
    config: SearchConfig
    records: tuple[TrialRecord, ...]
    best: TrialRecord | None
    best_file: str
    """A job file for `resnet-dist train`; empty where no trial has a value."""
    pool: SlotPool
    already_finished: bool
    test: Comparison | None = None
    """The best trial and the default on the test split, on which none was chosen; None where there is no such split."""
    repaired: tuple[str, ...] = ()
    """Files that had to be written again, of a search that was finished before."""


def run_tune(
    job: JobConfig,
    config: SearchConfig,
    space: Space,
    warm_start: str | None = None,
    submission: str | None = None,
) -> SearchOutcome:
    """Search from where it stands until its budget is spent.

    Raises ConfigError, DataError, ResourceError or StorageError for what cannot work before anything is started,
    RunHeldError when another process holds the search, KeyboardInterrupt (at SIGTERM TerminationError), with the best
    so far written down, when interrupted, JobFailedError when no trial has a value.
    """
    submission = submission or uuid.uuid4().hex
    if (job.cluster.address or "").startswith("ray://"):
        raise ConfigError(
            f"cluster.address={job.cluster.address}: a search's driver must live in the cluster; submit the command as "
            'a job, or run it on a node of the cluster with cluster.address="auto"'
        )
    directory = SearchDirectory.named(job.storage.root, run_name(job)).at_start(job.storage.outage_s, note)
    with ray_session(job.cluster) if job.cluster.address is not None else nullcontext():
        start = prepare_search(job, config, space, directory)
        return _search(start, directory, submission, warm_start)


def _search(start: SearchStart, directory: SearchDirectory, submission: str, warm_start: str | None) -> SearchOutcome:
    facts, cluster, began_here, past = start.facts, start.facts.job.cluster, time.time(), Past(0)
    warm = warm_trials(warm_start, facts)
    me, ttl_s = ProcessIdentity.current(), cluster.lease_ttl_s
    with take(directory.store, submission=submission, driver=me, ttl_s=ttl_s) as lease:
        # The watch beside the trials says it once for all.
        directory = directory.waiting(facts.job.storage.outage_s, _silent, lease.confirm)
        begun = Begun(directory.claim(start.identity, began_here), began_here)
        directory.store.write("search.toml", print_search(facts.config, facts.space).encode())
        while True:
            records = directory.read_trials()
            restore_records(directory, facts, records, start.data.summary(), write_split_csv(start.data.split_rows()))
            if _is_spent(facts.config, records):
                pool = SlotPool(start.slots, 0.0, 0.0)
                repaired = tuple(_repaired(directory, start, records))
                return replace(_outcome(directory, facts, records, pool, already_finished=True), repaired=repaired)
            try:
                with environment_defaults(QUIET), ray_session(cluster), scratch_folder("rd-tune-") as scratch:
                    study = _study(facts, records, warm, scratch / "study.journal")
                    return _run_trials(start, directory, submission, study, records, begun)
            except RayDiedError as death:
                # Ray Tune's own state is gone with Ray or an actor. All that counts is in the trials' records.
                match after_death(death, past, cluster.max_restarts, f"{_trained(directory.read_trials())} epochs"):
                    case Raise(reason):
                        raise reason from death
                    case Restart(past, pause_s):
                        note(f"{death}; starting it again in {pause_s:g} s, and going on with the trials")
                        time.sleep(pause_s)


def _trained(records: list[TrialRecord]) -> int:
    """Epochs, of all trials."""
    return sum(len(record.history) for record in records)


def _is_spent(config: SearchConfig, records: list[TrialRecord]) -> bool:
    epochs_are = config.total_epochs is not None and _trained(records) >= config.total_epochs
    return epochs_are or trials_left(config, records) <= 0


def _study(facts: SearchFacts, records: list[TrialRecord], warm: list[TrialRecord], journal: Path) -> StudySearch:
    over = [record for record in records if record.is_over]
    initial = initial_params(facts, records, warm)
    draws = Draws(facts.job.seed, first_draw(records, initial))
    return StudySearch(facts.config, facts.space, draws, journal, [*warm, *over], initial)


def _run_trials(
    start: SearchStart,
    directory: SearchDirectory,
    submission: str,
    study: StudySearch,
    records: list[TrialRecord],
    begun: Begun,
) -> SearchOutcome:
    """Run trials until the budget is spent."""
    facts, config = start.facts, start.facts.config
    actors = SearchActors.start(records)
    with (
        LiveTable(config, facts.job.training.epochs) as table,
        storage_watched(directory.store, table.say),
    ):
        trial_log = TrialLog(directory, facts, records, begun, actors, study.journal, table)
        study.suggested = trial_log.suggested
        trial_log.importance = lambda: importances(study.study, len(config.objectives))
        table.say(
            f"{directory.uri}: {config.trials} trials, {config.trials - trials_left(config, records)} of them over; "
            f"{start.slots} at a time with {facts.job.cluster.num_workers} workers each"
        )
        for warning in (*taught_images(facts.job, start.data), *start.leaks):
            table.say(warning)
        last_checkpoint = LastCheckpoint()
        slot = slot_of(start, directory, actors.dispatcher, submission, last_checkpoint.key)
        supervisors = Supervisors(ray.put(slot), start.plan, start.slots, actors, table.say)
        stopper = SearchStopper(
            trial_log,
            actors.dispatcher,
            config,
            begun.here,
            supervisors,
            last_checkpoint if facts.job.checkpoint.at_end_s else None,
        )
        try:
            with stopper.hears_signals():
                run_tuner(start, study, stopper, trial_log, actors)
        finally:
            trial_log.close()
            require_life()
            try:
                startup = sum(actors.dispatcher.call(Dispatcher.startup_s))
            finally:
                supervisors.end()
        pool = SlotPool(start.slots, time.time() - begun.here, startup)
        nobody_waits = stopper.ended_by is not None or bool(supervisors.failure)
        trial_log.finish(
            pool,
            lambda best, default: None if nobody_waits else final_test(directory, start, best, default, table.say),
        )
        _report(directory, table)
    if stopper.ended_by is not None:
        raise stopper.ended_by
    if supervisors.failure:
        raise JobFailedError(
            f"no worker group is left: {MOST_LOST} in a row of each slot ended without a trial served. The last one: "
            f"{supervisors.failure}\n{sum(record.is_over for record in trial_log.ordered)} of {config.trials} trials "
            "are over; repair that, and the same command goes on with the others"
        )
    return _outcome(directory, facts, trial_log.ordered, pool, already_finished=False)


def _repaired(directory: SearchDirectory, start: SearchStart, records: list[TrialRecord]) -> list[str]:
    """Write again what is missing or wrong of a finished search, for example after a kill; the names of those files."""
    facts, table = start.facts, LiveTable(start.facts.config, start.facts.job.training.epochs)
    over = [record for record in records if record.is_over]

    def importance() -> dict[str, float] | None:
        with scratch_folder("rd-tune-") as scratch:
            search = StudySearch(facts.config, facts.space, Draws(0), scratch / "study.journal", over, [])
            return importances(search.study, len(facts.config.objectives))

    def judge(best: TrialRecord, default: TrialRecord) -> dict[str, Any] | None:
        return final_test(directory, start, best, default, table.say)

    repaired = repair_results(directory, facts, records, start.slots, importance, judge)
    if repaired:
        _report(directory, table)
    return repaired


def _silent(_: str) -> None:
    """Nothing to say."""


def _report(directory: SearchDirectory, table: LiveTable) -> None:
    """Write the report page; where Plotly is not installed, say so and go on."""
    try:
        run_report(directory.uri, directory.uri)
    except (ConfigError, RunError) as error:
        table.say(f"no report: {error}")


def _outcome(
    directory: SearchDirectory,
    facts: SearchFacts,
    records: list[TrialRecord],
    pool: SlotPool,
    *,
    already_finished: bool,
) -> SearchOutcome:
    best = ranked(facts.config, records)[:1]
    worthless = [record for record in records if record.state in ("failed", "diverged")]
    if worthless and not best:
        raise JobFailedError(
            f"none of {len(records)} trials came to a value; the last one that failed:\n{worthless[-1].error}"
        )
    return SearchOutcome(
        uri=directory.uri,
        config=facts.config,
        records=tuple(records),
        best=best[0] if best else None,
        best_file=directory.store.place(BEST) if best else "",
        pool=pool,
        already_finished=already_finished,
        test=stored_test(directory.store),
    )
