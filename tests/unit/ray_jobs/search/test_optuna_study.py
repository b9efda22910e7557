import json
import math
import uuid
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from ray_jobs.job.config import JobConfig
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.optuna_study import Draws, StudySearch, importances
from ray_jobs.search.parameter import Params
from ray_jobs.search.records import TrialRecord, digest_of
from ray_jobs.search.results import SearchFacts
from ray_jobs.search.space import Space
from ray_jobs.search.starting_points import first_draw, initial_params
from ray_jobs.search.trainable import params_of

Start = Callable[..., StudySearch]
SEVERAL = {"objectives": ("val/top1", "latency_ms")}


@pytest.fixture
def start(space: Space, tmp_path: Path) -> Start:
    """A search's memory: what is over, what is tried first, and any settings."""
    made: list[int] = []

    def make(over: list[TrialRecord] | None = None, first: list[Params] | None = None, **settings: Any) -> StudySearch:
        made.append(1)
        draws = settings.pop("draws", Draws(settings.pop("seed", 0)))
        config = SearchConfig.model_validate({"startup_trials": 5} | settings)
        return StudySearch(config, space, draws, tmp_path / f"{len(made)}.journal", over or [], first or [])

    return make


def params(number: int) -> Params:
    """Points of the space, each other."""
    polynomial = {"schedule.kind": "polynomial", "schedule.polynomial_power": 0.5 + number / 10}
    deep = number % 3 == 2
    return {
        "optimizer.learning_rate": 0.001 * (number + 1),
        "freezing.freeze_depth": 5 if deep else number % 2,
        **({} if deep else polynomial if number % 3 else {"schedule.kind": "cosine"}),
        "augmentation.crop_area": (0.35, 1.0) if number % 2 else (0.6, 1.0),
        "optimizer.clip_norm": None if number % 4 else 1.0,
    }


def record(number: int, state: str, *curve: float, **options: Any) -> TrialRecord:
    history = tuple({"epoch": float(epoch), "val/top1": value} for epoch, value in enumerate(curve, 1))
    values = (max(curve),) if curve else ()
    known: dict[str, Any] = {"params": params(number), "values": values, "history": history, "state": state}
    return TrialRecord(**(known | {"number": number} | options))


RECORDS = [
    record(0, "finished", 0.5, 0.6),
    record(1, "stopped", 0.2),
    record(2, "diverged", 0.3, float("nan")),
    record(3, "failed"),
    record(4, "finished", 0.4, 0.9, 0.7),
    record(5, "stopped", 0.1, 0.3),
    record(6, "diverged"),
    record(7, "failed", 0.8),
]


def tell(search: StudySearch, known: TrialRecord) -> None:
    """As Ray Tune does of a trial that goes through its epochs."""
    name = f"trial {known.number}"
    assert params_of(search.suggest(name)) == known.params
    values = [epoch["val/top1"] for epoch in known.history]
    epochs = [{"epoch": place, "objective": max(values[:place])} for place in range(1, len(values) + 1)]
    last = epochs.pop() if epochs else {"epoch": 0, "objective": float("nan")}
    for epoch in epochs:
        search.on_trial_result(name, {**epoch, "state": "running"})
    if known.state == "failed":
        search.on_trial_result(name, {**last, "state": "running"})
        if known.history:
            search.on_trial_complete(name, {**last, "state": "failed"})
        else:
            search.on_trial_complete(name, None, error=True)
        return
    # One that the scheduler ends is still running by its own account.
    state = "running" if known.state == "stopped" else known.state
    if known.state == "diverged":
        last["objective"] = float("nan")
    search.on_trial_complete(name, {**last, "state": state})


def shape(search: StudySearch) -> list[tuple[Any, ...]]:
    """What a sampler sees of each trial: state, values, the last intermediate value, parameters."""
    return [
        (trial.state, trial.values, max(trial.intermediate_values.items(), default=None), trial.params)
        if trial.state == TrialState.PRUNED
        else (trial.state, trial.values, trial.params)
        for trial in search.study.trials
    ]


def test_a_study_made_again_from_records_is_what_was_told(start: Start):
    told = start(first=[known.params for known in RECORDS])
    for known in RECORDS:
        tell(told, known)
    again = start(RECORDS)
    assert shape(again) == shape(told)
    assert [trial.number for trial in again.study.trials] == list(range(len(RECORDS)))
    assert again.study.best_value == told.study.best_value == 0.9
    assert again.study.best_params == told.study.best_params
    assert [trial.distributions for trial in again.study.trials] == [trial.distributions for trial in told.study.trials]


def test_trials_that_did_not_finish_are_pruned_or_failed(start: Start):
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL] * 2
    told = start(first=[known.params for known in RECORDS])
    for known in RECORDS:
        tell(told, known)
    for search in (start(RECORDS), told):
        trials = search.study.trials
        assert [trial.state for trial in trials] == states
        stopped, diverged, twice, at_once = trials[1], trials[2], trials[5], trials[6]
        assert stopped.intermediate_values == {1: 0.2}
        assert stopped.value == 0.2
        assert max(twice.intermediate_values) == 2
        assert twice.value == 0.3
        assert [each.intermediate_values for each in (diverged, at_once)] == [{}, {}]
        assert [each.value for each in (diverged, at_once)] == [None, None]


def test_a_told_trial_keeps_its_epochs(start: Start):
    search = start(first=[RECORDS[4].params])
    tell(search, RECORDS[4])
    (trial,) = search.study.trials
    assert trial.intermediate_values == {1: 0.4, 2: 0.9, 3: 0.9}


def test_an_epoch_that_is_told_twice_is_no_trouble(start: Start, recwarn: pytest.WarningsRecorder):
    search = start(first=[RECORDS[1].params])
    search.suggest("a")
    result = {"epoch": 1.0, "objective": 0.2, "state": "running"}
    search.on_trial_result("a", result)
    search.on_trial_complete("a", result)
    assert [str(each.message) for each in recwarn] == []
    assert search.study.trials[0].intermediate_values == {1: 0.2}


@pytest.mark.parametrize("settings", [{}, SEVERAL, {"objectives": ("val/loss",)}])
def test_no_odd_number_leaves_a_trial_running(start: Start, settings: dict[str, Any]):
    search = start(**settings)
    states = ["finished", "running", "diverged", "stopped", "failed", "closed"]
    ends = list(product([float("nan"), float("inf"), float("-inf")], states))
    for number, (value, state) in enumerate(ends):
        name = f"trial {number}"
        search.suggest(name)
        search.on_trial_result(name, {"epoch": 1.0, "objective": value, "state": "running"})
        keys = {"objective_0": value, "objective_1": 3.0}
        search.on_trial_complete(name, {"epoch": 2.0, "objective": value, "state": state, **keys})
    trials = search.study.trials
    assert len(trials) == len(ends)
    for end, trial in zip(ends, trials, strict=True):
        assert trial.state in (TrialState.PRUNED, TrialState.FAIL), end
        assert not any(math.isnan(each) for each in trial.intermediate_values.values()), end


@pytest.mark.parametrize("settings", [{}, SEVERAL])
def test_a_trial_that_ended_with_the_search_is_no_evidence_for_or_against_it(start: Start, settings: dict[str, Any]):
    """Pruned, it would count among the worst: TPE ranks pruned trials behind all that finished."""
    search = start(**settings)
    search.suggest("a")
    result = {"epoch": 1.0, "objective": 0.9, "state": "running"}
    search.on_trial_result("a", result)
    search.on_trial_complete("a", {**result, "state": "closed"})
    (trial,) = search.study.trials
    assert (trial.state, trial.values, trial.intermediate_values) == (TrialState.FAIL, None, {})


@pytest.mark.parametrize("settings", [{}, SEVERAL])
def test_a_missing_value_leaves_no_trial_running(start: Start, settings: dict[str, Any]):
    search = start(**settings)
    for name, result in (("a", {"epoch": 0.0, "objective": float("nan"), "state": "finished"}), ("b", None)):
        search.suggest(name)
        search.on_trial_complete(name, result, error=False)
    assert {trial.state for trial in search.study.trials} <= {TrialState.PRUNED, TrialState.FAIL}


def test_a_record_of_any_number_can_be_told(start: Start):
    ends = list(product([(float("nan"),), (float("inf"),), (None,), ()], ["finished", "stopped", "diverged", "failed"]))
    history = ({"epoch": 1.0, "val/top1": 0.5},)
    search = start(
        [record(number, state, values=values, history=history) for number, (values, state) in enumerate(ends)]
    )
    trials = search.study.trials
    assert len(trials) == len(ends)
    for end, trial in zip(ends, trials, strict=True):
        assert trial.state in (TrialState.PRUNED, TrialState.FAIL), end
    assert search.suggest("next")


def test_first_comes_what_was_asked_for_and_what_lies_outside_is_run_and_not_told(start: Start, space: Space):
    outside = {**params(0), "optimizer.learning_rate": 7.0}
    assert not space.contains(outside)
    search = start(first=[params(1), outside, params(4)])
    assert params_of(search.suggest("a")) == params(1)
    assert search.suggest("b") == {"params": json.dumps(outside)}
    assert params_of(search.suggest("c")) == params(4)
    search.on_trial_result("b", {"epoch": 1.0, "objective": 0.5, "state": "running"})
    search.on_trial_complete("b", {"epoch": 2.0, "objective": 0.5, "state": "finished"})
    assert len(search.study.trials) == 2
    search.on_trial_complete("c", {"epoch": 2.0, "objective": 0.7, "state": "finished"})
    assert search.study.best_value == 0.7
    assert space.contains(params_of(search.suggest("d")))


def test_each_configuration_is_heard_of_in_the_order_in_which_it_is_tried(start: Start):
    search, heard = start(first=[params(1), {**params(0), "optimizer.learning_rate": 7.0}, params(4)]), list[Params]()
    search.suggested = heard.append
    tried = [params_of(search.suggest(name)) for name in "abcd"]
    assert heard == tried
    assert len(search.study.trials) == 3


def test_a_record_outside_the_space_is_not_told(start: Start):
    outside = replace(RECORDS[0], params={**params(0), "optimizer.learning_rate": 7.0})
    assert start([outside, RECORDS[4]]).study.best_value == 0.9
    assert len(start([outside]).study.trials) == 0


def curve(point: Params) -> tuple[float, ...]:
    rate, depth = point["optimizer.learning_rate"], point["freezing.freeze_depth"]
    assert isinstance(rate, float)
    assert isinstance(depth, int)
    height = 0.9 - 0.1 * abs(math.log10(rate) + 1.5) - 0.02 * depth
    return height / 2, height


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "random"])
@pytest.mark.filterwarnings("error")
def test_every_sampler_suggests_points_of_the_space(start: Start, space: Space, sampler: str):
    search, suggested = start(sampler=sampler), list[Params]()
    for number in range(12):
        name = f"trial {number}"
        suggested.append(params_of(search.suggest(name)))
        first, best = curve(suggested[-1])
        search.on_trial_result(name, {"epoch": 1.0, "objective": first, "state": "running"})
        state = ["finished", "finished", "running", "diverged"][number % 4]
        search.on_trial_complete(name, {"epoch": 2.0, "objective": best, "state": state})
    # Three at a time, as slots ask.
    suggested += [params_of(search.suggest(f"more {number}")) for number in range(3)]
    assert [point for point in suggested if not space.contains(point)] == []
    assert len({json.dumps(point) for point in suggested}) == len(suggested)


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "random"])
def test_several_objectives_are_learned_from(start: Start, space: Space, sampler: str):
    search = start(sampler=sampler, startup_trials=11, **SEVERAL)
    for number in range(12):
        name = f"trial {number}"
        point = params_of(search.suggest(name))
        search.on_trial_result(name, {"epoch": 1.0, "objective": 0.1, "state": "running"})
        values = {"objective_0": curve(point)[1], "objective_1": float(number)}
        search.on_trial_complete(name, {"epoch": 2.0, "objective": 0.1, "state": "finished", **values})
    assert [trial.state for trial in search.study.trials] == [TrialState.COMPLETE] * 12
    assert search.study.trials[5].values == [curve(decoded(space, search, 5))[1], 5.0]
    assert space.contains(params_of(search.suggest("next")))


def decoded(space: Space, search: StudySearch, number: int) -> Params:
    choices = {each.field: each.choices for each in space.parameters if each.kind == "categorical"}
    texts = {field: {json.dumps(value): value for value in values} for field, values in choices.items()}
    found = search.study.trials[number].params
    return {field: texts[field][value] if field in texts else value for field, value in found.items()}


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "random"])
def test_several_objectives_of_which_most_came_to_nothing_are_no_trouble(start: Start, space: Space, sampler: str):
    """Optuna's samplers read the values of all trials they take for good ones."""
    search = start(sampler=sampler, startup_trials=8, **SEVERAL)
    for number in range(12):
        search.suggest(f"trial {number}")
        result = {"epoch": 1.0, "objective": 0.5, "objective_0": 0.5, "objective_1": 2.0}
        state = "finished" if number == 6 else "diverged"
        search.on_trial_complete(f"trial {number}", {**result, "state": state})
    states = [trial.state for trial in search.study.trials]
    assert states == [TrialState.COMPLETE if number == 6 else TrialState.FAIL for number in range(12)]
    assert space.contains(params_of(search.suggest("next")))
    both = [
        replace(known, values=(*known.values, 3.0) if known.values else ()) for known in [*RECORDS[:4], *RECORDS[5:]]
    ]
    again = start(both, sampler=sampler, startup_trials=1, **SEVERAL)
    assert [trial.values for trial in again.study.best_trials] == [[0.6, 3.0]]
    assert {trial.state for trial in again.study.trials} == {TrialState.COMPLETE, TrialState.FAIL}
    assert space.contains(params_of(again.suggest("next")))


def fuller() -> list[TrialRecord]:
    return [record(number, "finished", *curve(params(number))) for number in range(12)] + RECORDS[1:4]


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "cmaes", "random"])
def test_suggestions_after_a_restart_follow_from_the_seed(start: Start, sampler: str):
    def suggested(seed: int) -> list[Params]:
        search = start(fuller(), sampler=sampler, seed=seed)
        return [params_of(search.suggest(f"trial {number}")) for number in range(1 if sampler == "gp" else 3)]

    first = suggested(1)
    assert first == suggested(1)
    assert first != suggested(2)


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("gp", marks=pytest.mark.slow), "cmaes", "random"])
@given(cuts=st.lists(st.integers(1, 11), max_size=3, unique=True), is_over=st.booleans())
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_an_interrupted_search_draws_what_an_undisturbed_one_draws(
    start: Start, space: Space, sampler: str, cuts: list[int], *, is_over: bool
):
    """Random draws alone: what a sampler learns depends on which trials are over."""
    options: dict[str, Any] = {"sampler": sampler, "startup_trials": 20}
    facts = SearchFacts("search", JobConfig(), SearchConfig.model_validate(options), space, 3, 80, 20)

    def drawn(ends: list[int]) -> list[Params]:
        records: list[TrialRecord] = []
        for end in [*sorted(ends), 12]:
            initial = initial_params(facts, records, [])
            search = start([], initial, draws=Draws(7, first_draw(records, initial)), **options)
            known = {record.digest for record in records}
            while len(records) < end:
                params = params_of(search.suggest(f"trial {uuid.uuid4()}"))
                if digest_of(params) not in known:  # else an unfinished one, again
                    state = "finished" if is_over else "running"
                    records.append(TrialRecord(len(records), params, state=state, values=(0.5,) * is_over))
        return [record.params for record in records]

    assert drawn(cuts) == drawn([])


def test_importances_are_shares_and_absent_where_too_little_is_known(start: Start):
    assert importances(start().study, 1) is None
    assert importances(start([*RECORDS[:4], *RECORDS[5:]]).study, 1) is None
    found = importances(start(fuller()).study, 1)
    assert found is not None
    assert {"optimizer.learning_rate", "freezing.freeze_depth"} <= found.keys()
    assert sum(found.values()) == pytest.approx(1.0)
    several = [replace(known, values=(*known.values, 1.0)) for known in fuller()[:12]]
    assert importances(start(several, **SEVERAL).study, 2) is not None


def test_tune_may_save_and_copy_it_without_saving_anything(start: Start, tmp_path: Path):
    search = start(RECORDS)
    search.save(str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()
    assert search.__getstate__() == {}
