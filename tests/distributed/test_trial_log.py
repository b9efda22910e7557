"""The trial log beside real actors, told of what Ray Tune's trials come to."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import ray
from ray.tune.experiment import Trial as TuneTrial

from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.search.actors import SearchActorDiedError, SearchActors
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.dispatcher import Dispatcher, TrialOrder
from ray_jobs.search.known_trials import KnownTrials
from ray_jobs.search.live_table import LiveTable
from ray_jobs.search.parameter import Params
from ray_jobs.search.records import SearchDirectory, TrialRecord, digest_of
from ray_jobs.search.results import SearchFacts, SlotPool
from ray_jobs.search.space import Space
from ray_jobs.search.trial_log import Begun, TrialLog

pytestmark = pytest.mark.usefixtures("shared_ray")

PARAMS: Params = {"optimizer.learning_rate": 0.02}
OTHER: Params = {"optimizer.learning_rate": 0.03}
DIGEST = digest_of(PARAMS)


@pytest.fixture
def actors() -> Iterator[SearchActors]:
    """Actors of their own; nothing is over yet."""
    made = SearchActors.start([])
    yield made
    for client in (made.dispatcher, made.known_trials):
        ray.kill(client.handle)


@pytest.fixture
def directory(tmp_path: Path) -> SearchDirectory:
    """Where the records are."""
    return SearchDirectory.named(str(tmp_path), "casting")


@pytest.fixture
def trial_log(tmp_path: Path, directory: SearchDirectory, actors: SearchActors) -> TrialLog:
    """The trial log of a search that goes on and in which one trial has begun."""
    config, space = SearchConfig(), Space.of({"optimizer.learning_rate": {"uniform": [0.001, 0.1]}})
    job: JobConfig = check({"name": "casting", "data": {"root": "x"}, "training": {"epochs": 3}})
    facts = SearchFacts("casting", job, config, space, classes=2, train=10, val=4)
    table = LiveTable(config, job.training.epochs)
    left = [TrialRecord(7, OTHER, ended_by="hours"), TrialRecord(8, {"optimizer.learning_rate": 0.04}, state="failed")]
    found = TrialLog(directory, facts, left, Begun(0.0, 0.0), actors, tmp_path / "journal", table)
    found.suggested(PARAMS)
    return found


def trial(name: str) -> TuneTrial:
    return TuneTrial("trial", stub=True, trial_id=name, config={"params": json.dumps(PARAMS)})


def stored(directory: SearchDirectory) -> TrialRecord:
    """The record of the trial that has begun."""
    return next(record for record in directory.read_trials() if record.params == PARAMS)


def dies(trial_log: TrialLog, name: str) -> None:
    trial_log.on_trial_error(0, [], trial(name))


def test_a_process_that_waits_for_equal_parameters_dies_without_failing_them(
    trial_log: TrialLog, directory: SearchDirectory, actors: SearchActors
) -> None:
    assert actors.known_trials.call(KnownTrials.get, DIGEST, "live") is None
    actors.dispatcher.call(Dispatcher.submit, TrialOrder(DIGEST, JobConfig()))
    waiting = actors.known_trials.send(KnownTrials.get, DIGEST, "waits")
    dies(trial_log, "waits")
    record = stored(directory)
    assert (record.state, record.repeats) == ("running", 1)
    assert not ray.wait([waiting], timeout=0)[0]
    assert actors.dispatcher.call(Dispatcher.take, 0, 1, 0).digest == DIGEST  # it still is to be trained

    for state in ("running", "failed"):  # once may be chance
        first = pytest.raises(SearchActorDiedError, match="the process that followed trial 9 has ended")
        with first if state == "running" else nullcontext():
            dies(trial_log, "live")
        record = stored(directory)
        assert (record.state, record.repeats) == (state, 1)
    assert ray.get(waiting).state == "failed"


def test_a_process_that_dies_before_it_asks_fails_what_nobody_trains(
    trial_log: TrialLog, directory: SearchDirectory, actors: SearchActors
) -> None:
    with pytest.raises(SearchActorDiedError):
        dies(trial_log, "live")
    assert stored(directory).state == "running"
    dies(trial_log, "live")
    assert stored(directory).state == "failed"
    assert actors.known_trials.call(KnownTrials.get, DIGEST, "another").state == "failed"


def test_a_trial_that_ends_with_the_search_says_so_until_it_goes_on(
    trial_log: TrialLog, directory: SearchDirectory, actors: SearchActors
) -> None:
    actors.dispatcher.call(Dispatcher.submit, TrialOrder(DIGEST, JobConfig()))
    actors.dispatcher.call(Dispatcher.take, 0, 1, 0)
    trial_log.close("total_epochs")
    trial_log.close()
    trial_log.finish(SlotPool(1, 1.0, 0.0), lambda *_: None)
    record = stored(directory)
    assert (record.state, record.ended_by, record.slot) == ("running", "total_epochs", 0)
    assert record.started_s is not None
    assert record.ended_s is not None
    assert record.ended_s >= record.started_s
    assert trial_log.records[digest_of(OTHER)].ended_by == "hours"  # it was left before, and not begun since
    trial_log.suggested(PARAMS)
    assert stored(directory).ended_by is None
    trial_log.suggested(OTHER)
    assert trial_log.records[digest_of(OTHER)].ended_by is None


def test_what_its_scheduler_ends_is_over_and_what_is_closed_is_not(
    trial_log: TrialLog, directory: SearchDirectory
) -> None:
    ended = trial("live")
    ended.run_metadata.last_result = {"epoch": 1.0, "state": "closed"}
    trial_log.on_trial_complete(0, [], ended)
    assert (stored(directory).state, stored(directory).ended_by) == ("running", None)
    ended.run_metadata.last_result = {"epoch": 1.0, "state": "running"}
    trial_log.on_trial_complete(0, [], ended)
    assert (stored(directory).state, stored(directory).ended_by) == ("stopped", "scheduler")
