import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from ray_jobs.search.config import SearchConfig
from ray_jobs.search.records import TrialRecord, digest_of
from ray_jobs.search.scheduling import build_scheduler
from ray_jobs.search.trainable import PARAMS

Make = Callable[..., TrialRecord]
SPARED = digest_of({"optimizer.momentum": 0.9})
CONTINUE, STOP, PAUSE = TrialScheduler.CONTINUE, TrialScheduler.STOP, TrialScheduler.PAUSE


@dataclass(frozen=True)
class Running:
    """As much of Tune's trial as schedulers look at."""

    trial_id: str
    status: str = "RUNNING"
    config: dict[str, str] = field(
        default_factory=lambda: {PARAMS: json.dumps({"optimizer.momentum": 0.5})}, hash=False
    )


class Controller:
    """With trials that wait, which is when Tune's median rule would pause one."""

    def get_live_trials(self) -> list[Running]:
        return [Running("waiting", "PENDING")]


def decisions(scheduler: Any, values: list[float], name: str = "now") -> list[str]:
    trial = Running(name)
    return [judged(scheduler, trial, epoch, value) for epoch, value in enumerate(values, 1)]


def judged(scheduler: Any, trial: Running, epoch: int, value: float) -> str:
    if epoch == 1:
        scheduler.on_trial_add(Controller(), trial)
    return scheduler.on_trial_result(Controller(), trial, {"epoch": float(epoch), "objective": value})


def config(**settings: Any) -> SearchConfig:
    return SearchConfig.model_validate(settings)


def test_asha_that_knows_earlier_trials_ends_a_bad_one_at_the_first_rung(make_trial: Make):
    asha = config(scheduler="asha")
    over = [make_trial(number, 0.8, 0.85, 0.9) for number in range(4)]
    assert decisions(build_scheduler(asha, 9, over, SPARED), [0.1])[0] == STOP
    assert decisions(build_scheduler(asha, 9, [], SPARED), [0.1])[0] == CONTINUE
    assert decisions(build_scheduler(asha, 9, over, SPARED), [0.95] * 9) == [CONTINUE] * 9


def test_asha_waits_for_the_grace_epochs(make_trial: Make):
    over = [make_trial(number, 0.8, 0.8, 0.8, 0.8) for number in range(4)]
    asha = config(scheduler="asha", grace_epochs=3)
    assert decisions(build_scheduler(asha, 9, over, SPARED), [0.1, 0.1, 0.1]) == [CONTINUE, CONTINUE, STOP]
    assert decisions(build_scheduler(asha, 2, over, SPARED), [0.1, 0.1]) == [CONTINUE, CONTINUE]


def test_asha_judges_by_the_best_value_so_far(make_trial: Make):
    over = [make_trial(number, 0.5, 0.9, 0.1) for number in range(4)]
    asha = config(scheduler="asha")
    assert decisions(build_scheduler(asha, 9, over, SPARED), [0.6, 0.6, 0.6])[2] == STOP
    fallen = [make_trial(number, 0.5, 0.5, 0.1) for number in range(4)]
    assert decisions(build_scheduler(asha, 9, fallen, SPARED), [0.6, 0.6, 0.6])[2] == CONTINUE


def test_where_less_is_better_it_is(make_trial: Make):
    over = [
        make_trial(number, history=tuple({"epoch": float(epoch), "val/loss": 0.5} for epoch in (1, 2, 3)))
        for number in range(6)
    ]
    for scheduler in ("asha", "median"):
        less = config(scheduler=scheduler, objectives=("val/loss",))
        assert decisions(build_scheduler(less, 9, over, SPARED), [0.1])[0] == CONTINUE
        assert decisions(build_scheduler(less, 9, over, SPARED), [0.9])[0] == STOP


def test_median_that_knows_earlier_trials_ends_what_is_worse_than_them(make_trial: Make):
    median = config(scheduler="median", median_trials=3)
    over = [make_trial(number, 0.5, 0.7, 0.8) for number in range(3)]
    assert decisions(build_scheduler(median, 9, over, SPARED), [0.4])[0] == STOP
    assert decisions(build_scheduler(median, 9, over, SPARED), [0.6, 0.7, 0.8]) == [CONTINUE] * 3
    assert decisions(build_scheduler(median, 9, over[:2], SPARED), [0.4])[0] == CONTINUE
    late = config(scheduler="median", median_trials=3, grace_epochs=3)
    assert decisions(build_scheduler(late, 9, over, SPARED), [0.4, 0.4, 0.4]) == [CONTINUE, CONTINUE, STOP]


@pytest.mark.parametrize("known", [0, 2, 9])
def test_median_never_pauses_a_trial(make_trial: Make, known: int):
    scheduler = build_scheduler(config(scheduler="median"), 9, [make_trial(each, 0.5) for each in range(known)], SPARED)
    found = [decisions(scheduler, [0.5] * 9, f"trial {each}") for each in range(6)]
    assert PAUSE not in {decision for each in found for decision in each}


def test_none_ends_nothing(make_trial: Make):
    over = [make_trial(number, 0.9) for number in range(9)]
    for settings in ({"scheduler": "none"}, {"objectives": ("val/top1", "parameters")}):
        scheduler = build_scheduler(config(**settings), 9, over, SPARED)
        assert type(scheduler) is FIFOScheduler
        assert decisions(scheduler, [0.0] * 9) == [CONTINUE] * 9


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_trials_that_came_to_nothing_are_no_reason_to_end_others(make_trial: Make, scheduler: str):
    over = [make_trial(number, state="failed") for number in range(9)]
    fresh = build_scheduler(cast("Any", config(scheduler=scheduler)), 9, over, SPARED)
    assert decisions(fresh, [0.1] * 9) == [CONTINUE] * 9


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_the_spared_trial_is_never_ended_and_counts(make_trial: Make, scheduler: str):
    settings = cast("Any", config(scheduler=scheduler, median_trials=1))
    over = [make_trial(number, 0.8, 0.8, 0.8, 0.8) for number in range(4)]
    spared = Running("default", config={PARAMS: json.dumps({"optimizer.momentum": 0.9})})
    built = build_scheduler(settings, 9, over, SPARED)
    assert [judged(built, spared, epoch, 0.1) for epoch in range(1, 10)] == [CONTINUE] * 9
    assert decisions(built, [0.1])[0] == STOP

    alone = build_scheduler(settings, 9, [], SPARED)
    assert [judged(alone, spared, epoch, 0.9) for epoch in range(1, 10)] == [CONTINUE] * 9
    assert decisions(alone, [0.1])[0] == STOP


def test_an_earlier_trial_that_came_further_than_the_median_rule_would_let_it_is_no_error(make_trial: Make):
    over = [*(make_trial(number, 0.8, 0.8, 0.8) for number in range(4)), make_trial(4, 0.1, 0.2, 0.3)]
    median = config(scheduler="median", median_trials=1)
    assert decisions(build_scheduler(median, 9, over, SPARED), [0.1])[0] == STOP
