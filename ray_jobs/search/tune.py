"""`resnet-dist tune`: searches for a better configuration than the default, within a budget."""

# Ray Tune carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import logging
import tempfile
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from cluster.session.environment import environment_defaults
from cluster.session.session import ray_session
from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from data_pipeline.errors import DataError
from ray_jobs.errors import ConfigError, JobFailedError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.run.directory import names_a_place
from ray_jobs.search.actors import Actor, ask
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.dispatcher import MOST_LOST, Dispatcher
from ray_jobs.search.final_test import compare_on_test
from ray_jobs.search.known_trials import KnownTrials
from ray_jobs.search.live_table import LiveTable
from ray_jobs.search.optuna_study import StudySearch, importances
from ray_jobs.search.pool import start_pool
from ray_jobs.search.prepare import SearchStart, prepare_search
from ray_jobs.search.records import SearchDirectory, TrialRecord, digest_of
from ray_jobs.search.repair import repair_results
from ray_jobs.search.report_page import run_report
from ray_jobs.search.results import BEST, SearchFacts, SlotPool, ranked
from ray_jobs.search.scheduling import build_scheduler
from ray_jobs.search.space import Params, Space
from ray_jobs.search.stopping import SearchStopper
from ray_jobs.search.toml import print_search
from ray_jobs.search.trainable import Trial, values_of
from ray_jobs.search.trial_log import TrialLog
from resnet_dist.errors import RunError

_CALLS = 1000
"""Calls that an actor may keep waiting at a time."""
_NEXT_TO_NOTHING = {"node:__internal_head__": 0.0001}
"""What a trial's own process reserves: no CPU, which its workers need, and Tune refuses nothing at all."""
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours ends the search as it should
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # its state is disposable
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "10",
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""With these, Tune prints nothing and installs nothing."""


@dataclass(frozen=True)
class SearchOutcome:
    """What a search has come to."""

    uri: str
    config: SearchConfig
    records: tuple[TrialRecord, ...]
    best: TrialRecord | None
    best_file: str
    """A job file for `resnet-dist train`; empty where no trial came to a value."""
    pool: SlotPool
    already_finished: bool
    repaired: tuple[str, ...] = ()
    """Files of a search that was finished before that had to be written again."""


def run_tune(
    job: JobConfig,
    config: SearchConfig,
    space: Space,
    warm_start: str | None = None,
    submission: str | None = None,
) -> SearchOutcome:
    """Search from where it stands until its budget is spent.

    Raises ConfigError, DataError, ResourceError or StorageError for what cannot work before anything is started,
    RunHeldError when another process holds the search, KeyboardInterrupt, with the best so far written down, when
    interrupted, JobFailedError when no trial came to a value.
    """
    submission = submission or uuid.uuid4().hex
    if (job.cluster.address or "").startswith("ray://"):
        raise ConfigError(
            f"cluster.address={job.cluster.address}: a search's driver must live in the cluster; submit the command as "
            'a job, or run it on a node of the cluster with cluster.address="auto"'
        )
    directory = SearchDirectory.named(job.storage.root, run_name(job))
    with ray_session(job.cluster) if job.cluster.address is not None else _nothing():
        start = prepare_search(job, config, space, directory)
        return _search(start, directory, submission, warm_start)


def _search(start: SearchStart, directory: SearchDirectory, submission: str, warm_start: str | None) -> SearchOutcome:
    facts, me = start.facts, ProcessIdentity.current()
    config, began_here = facts.config, time.time()
    warm = _warm(warm_start, facts)
    with take(directory.store, submission=submission, driver=me, ttl_s=facts.job.cluster.lease_ttl_s):
        began = directory.claim(start.identity, began_here)
        directory.store.write("search.toml", print_search(config, facts.space).encode())
        records = directory.read_trials()
        tried = sum(1 + record.repeats for record in records if record.is_over)
        trained = sum(len(record.history) for record in records)
        if tried >= config.trials or (config.total_epochs is not None and trained >= config.total_epochs):
            pool = SlotPool(start.slots, 0.0, 0.0)
            repaired = _repaired(directory, start, records)
            return replace(_outcome(directory, facts, records, pool, already_finished=True), repaired=tuple(repaired))
        with (
            environment_defaults(_QUIET),
            ray_session(facts.job.cluster),
            tempfile.TemporaryDirectory(prefix="rd-tune-") as scratch,
        ):
            dispatcher: Actor = ray.remote(Dispatcher).options(num_cpus=0, max_concurrency=_CALLS).remote()
            known: Actor = ray.remote(KnownTrials).options(num_cpus=0, max_concurrency=_CALLS).remote(records)
            journal = Path(scratch) / "study.journal"
            over = [record for record in records if record.is_over]
            first = _first(facts, records, warm)
            seed = _seed(facts.job.seed, sum(1 + record.repeats for record in records))
            search = StudySearch(config, facts.space, seed, journal, [*warm, *over], first)
            with LiveTable(config, facts.job.training.epochs) as table:
                trial_log = TrialLog(directory, facts, records, began, dispatcher, known, journal, table)
                search.suggested = trial_log.suggested
                trial_log.importance = lambda: importances(search.study, len(config.objectives))
                table.say(
                    f"{directory.uri}: {config.trials} trials, {tried} of them over; {start.slots} at a time with "
                    f"{facts.job.cluster.num_workers} workers each"
                )
                supervisors = start_pool(start, directory, dispatcher, submission, me, table.say)
                stopper = SearchStopper(trial_log, dispatcher, config, began_here, supervisors)
                try:
                    with stopper.hears_interrupts():
                        _tune(
                            search,
                            facts,
                            config.trials - tried,
                            start.slots,
                            over,
                            stopper,
                            trial_log,
                            dispatcher,
                            known,
                            scratch,
                        )
                finally:
                    trial_log.close()
                    try:
                        startup = sum(ask(dispatcher.startup_s.remote()))
                    finally:
                        supervisors.end()
                pool = SlotPool(start.slots, time.time() - began_here, startup)
                nobody_waits = stopper.interrupted or supervisors.failure
                trial_log.finish(
                    pool,
                    lambda best, default: None if nobody_waits else _judged(directory, start, table, best, default),
                )
                _report(directory, table)
        if stopper.interrupted:
            raise KeyboardInterrupt
        if supervisors.failure:
            raise JobFailedError(
                f"no worker group is left, after {MOST_LOST} in a row of each slot ended without a trial served; the "
                f"last one: {supervisors.failure}\n{sum(record.is_over for record in trial_log.ordered)} of "
                f"{config.trials} trials are over; once that is repaired, the same command goes on with the others"
            )
        return _outcome(directory, facts, trial_log.ordered, pool, already_finished=False)


def _tune(
    search: StudySearch,
    facts: SearchFacts,
    samples: int,
    slots: int,
    over: list[TrialRecord],
    stopper: SearchStopper,
    trial_log: TrialLog,
    dispatcher: Actor,
    known: Actor,
    scratch: str,
) -> None:
    config = facts.config
    trainable = tune.with_parameters(
        Trial, dispatcher=dispatcher, job=facts.job, objectives=config.objectives, known=known
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, _NEXT_TO_NOTHING),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=build_scheduler(
                config, facts.job.training.epochs, over, digest_of(facts.space.default(facts.job))
            ),
            num_samples=samples,
            max_concurrent_trials=slots,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=scratch,
            stop=stopper,
            callbacks=[trial_log],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    )
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)  # it misses files that nobody needs
    tuner.fit()


def _judged(
    directory: SearchDirectory,
    start: SearchStart,
    table: LiveTable,
    best: TrialRecord,
    default: TrialRecord,
) -> dict[str, Any] | None:
    """The best trial and the default on the test split; None where there is none."""
    metric = start.facts.config.objectives[0].removeprefix("val/")
    if not start.data.counts.get("test"):
        return None
    one, other = (directory.trial(each.digest).uri for each in (best, default))
    try:
        return compare_on_test(one, other, "top1" if metric == "loss" else metric, start.facts.job.seed)
    except (RunError, DataError, RayError) as error:
        table.say(f"the test split was not judged: {error}")
        return None


def _repaired(directory: SearchDirectory, start: SearchStart, records: list[TrialRecord]) -> list[str]:
    """Which files of a finished search had to be written again, such as those whose writer was killed."""
    facts, table = start.facts, LiveTable(start.facts.config, start.facts.job.training.epochs)
    over = [record for record in records if record.is_over]

    def importance() -> dict[str, float] | None:
        with tempfile.TemporaryDirectory(prefix="rd-tune-") as scratch:
            search = StudySearch(facts.config, facts.space, 0, Path(scratch) / "study.journal", over, [])
            return importances(search.study, len(facts.config.objectives))

    def judge(best: TrialRecord, default: TrialRecord) -> dict[str, Any] | None:
        return _judged(directory, start, table, best, default)

    repaired = repair_results(directory, facts, records, start.slots, importance, judge)
    if repaired:
        _report(directory, table)
    return repaired


def _report(directory: SearchDirectory, table: LiveTable) -> None:
    """The page, where what it needs is installed: a search is not lost for it."""
    try:
        run_report(directory.uri, directory.uri)
    except (ConfigError, RunError) as error:
        table.say(f"no report: {error}")


def _seed(seed: int, begun: int) -> int:
    """The sampler's: another one at each start, or it would draw once more what was drawn before."""
    return (seed + 1_000_003 * begun) % 2**32


def _first(facts: SearchFacts, records: list[TrialRecord], warm: list[TrialRecord]) -> list[Params]:
    """What is tried before anything is suggested: the default, what was not finished, and what was best elsewhere."""
    known = {record.digest for record in records}
    best = ranked(facts.config, warm)[:1]
    wanted = [facts.space.default(facts.job), *(each.params for each in best)]
    unfinished = [record.params for record in records if not record.is_over]
    return [*unfinished, *(params for params in wanted if digest_of(params) not in known)]


def _warm(name: str | None, facts: SearchFacts) -> list[TrialRecord]:
    """Finished trials of an earlier search, of those that lie in this one's space."""
    if name is None:
        return []
    root = facts.job.storage.root
    place = SearchDirectory(Store.open(name)) if names_a_place(name) else SearchDirectory.named(root, name)
    objectives = facts.config.objectives
    found = [
        replace(
            record, values=values_of(objectives, record.history, dict[str, float]())
        )  # whatever it was searched for
        for record in place.read_trials()
        if record.is_over
    ]
    if not found:
        raise ConfigError(f"--warm-start {name}: {place.uri} has no trial that is over; name an earlier search")
    return [record for record in found if facts.space.contains(record.params)]


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
    )


@contextmanager
def _nothing() -> Generator[None]:
    yield
