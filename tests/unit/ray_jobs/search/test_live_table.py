import io
import math
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from ray_jobs.search.config import SearchConfig
from ray_jobs.search.live_table import LiveTable, one_line, short_params
from ray_jobs.search.records import TrialRecord

Make = Callable[..., TrialRecord]
ONE = SearchConfig(trials=9)
TWO = SearchConfig(trials=9, objectives=("val/macro_f1", "latency_ms"))
ODD = "[red]all[/] of [/memory] :warning: is gone [bold"


def console(*, terminal: bool) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=100, record=True, highlight=False, color_system=None,
        legacy_windows=False, _environ={},
    )  # fmt: skip


def written(table: Console) -> str:
    assert isinstance(table.file, io.StringIO)
    return table.file.getvalue()


def test_one_line_says_what_came_of_a_trial(make_trial: Make):
    trial = make_trial(
        3, 0.25, 0.5, values=(0.5, None), params={"optimizer.learning_rate": 0.012345, "model.arch": "r"}
    )
    assert one_line(trial, TWO, 10) == (
        "trial 3  finished after 2/10 epochs  val/macro_f1 0.5000  (learning_rate=0.0123, arch=r)"
    )
    default = make_trial(0, values=(0.5, 4.25), is_default=True)
    assert one_line(default, TWO, 10) == (
        "trial 0  finished after 0/10 epochs  val/macro_f1 0.5000  latency_ms 4.2500  (default)"
    )
    left = make_trial(2, 0.5, state="running", ended_by="total_epochs", is_default=True)
    assert one_line(left, ONE, 10) == (
        "trial 2  unfinished (total_epochs) after 1/10 epochs  val/macro_f1 0.5000  (default)"
    )
    failed = make_trial(1, state="failed", error="x" * 300 + "\nTraceback", is_default=True)
    assert one_line(failed, ONE, 10) == f"trial 1  failed after 0/10 epochs  {'x' * 200}  (default)"


@pytest.mark.parametrize("error", ["\n", " \n\n", "\r\n", "\x1e", "\u2028"])
def test_an_error_without_text_is_a_line_still(make_trial: Make, error: str):
    line = one_line(make_trial(1, state="failed", error=error), ONE, 3)
    assert line.startswith("trial 1  failed after 0/3 epochs")
    assert len(line.splitlines()) == 1


def test_parameters_go_by_the_last_part_of_their_names(make_trial: Make):
    params: dict[str, Any] = {
        "a.b": 1e-7, "c.d.e": True, "f": None, "g.h": (0.35, 1.0), "i.j": 3, "k.l": "text",
    }  # fmt: skip
    assert short_params(make_trial(0, params=params)) == "b=1e-07, e=True, f=None, h=(0.35, 1.0), j=3, l=text"


def test_what_is_said_is_written_as_it_is():
    shown = console(terminal=False)
    with LiveTable(ONE, 3, shown) as table:
        table.say(ODD)
        table.say("x" * 300)
        table.refresh([], now=True)
    assert written(shown).splitlines() == [ODD, "x" * 300]


def test_the_best_so_far_is_marked(make_trial: Make):
    shown = console(terminal=False)
    trials = [make_trial(0, 0.5), make_trial(1, 0.7), make_trial(2, 0.6), make_trial(3, 0.9, state="stopped")]
    with LiveTable(ONE, 3, shown) as table:
        for place, trial in enumerate(trials, 1):
            table.ended(trial, trials[:place])
    assert ["best so far" in line for line in written(shown).splitlines()] == [True, True, False, False]


def rows(make_trial: Make) -> list[TrialRecord]:
    return [
        make_trial(0, 0.5, 0.75, is_default=True),
        make_trial(1, math.nan, state="diverged", values=(math.nan, None)),
        make_trial(2, state="failed", error=ODD * 50, params={"model.weights": ODD, "optimizer.clip_norm": None}),
        make_trial(3, 0.5, state="stopped", values=(0.5, math.inf), ended_by="scheduler"),
        make_trial(4, 0.25, state="running", params={"data.pad_colour": (1, 2, 3), "a.b": "x" * 300}),
    ]


@pytest.mark.parametrize("config", [ONE, TWO])
def test_the_table_shows_every_kind_of_trial(make_trial: Make, config: SearchConfig):
    trials = rows(make_trial)
    if config is ONE:
        trials = [TrialRecord(**{**vars(trial), "values": trial.values[:1]}) for trial in trials]
    shown = console(terminal=True)
    with LiveTable(config, 10, shown) as table:
        table.refresh(trials, now=True)
        during = written(shown)
    assert "4 of 9 trials over, 1 running; best val/macro_f1 0.7500 (trial 0)" in during
    assert "nan" in during
    for trial in trials:
        assert any(trial.standing in line and f"{len(trial.history)}/10" in line for line in during.splitlines())
    assert "[/memory]" in "".join(during.split())
    assert all(len(line) <= 100 for line in during.splitlines()[1:])


def test_no_trials_are_a_table_too():
    shown = console(terminal=True)
    with LiveTable(ONE, 10, shown) as table:
        table.refresh([], now=True)
        assert "0 of 9 trials over, 0 running" in written(shown)


def test_only_the_last_ones_that_ended_are_shown_and_all_that_run(make_trial: Make):
    ended = [make_trial(number, number / 100) for number in range(30)]
    running = [make_trial(number, state="running") for number in range(30, 42)]
    shown = console(terminal=True)
    with LiveTable(ONE, 10, shown) as table:
        table.refresh([*ended, *running], now=True)
        lines = written(shown).splitlines()
    states = [line.split()[:2] for line in lines if "/10" in line]
    assert [int(number) for number, state in states if state == "finished"] == list(range(22, 30))
    assert [int(number) for number, state in states if state == "running"][:5] == list(range(30, 35))


def test_a_table_is_shown_at_most_twice_a_second(make_trial: Make):
    shown = console(terminal=True)
    with LiveTable(ONE, 10, shown) as table:
        table.refresh([], now=True)
        before = written(shown)
        table.refresh([make_trial(0, 0.5)])
        assert written(shown) == before
        table.refresh([make_trial(0, 0.5)], now=True)
        assert "1 of 9" in written(shown)


def test_an_end_is_told_above_the_table(make_trial: Make):
    shown = console(terminal=True)
    trials = rows(make_trial)
    with LiveTable(TWO, 10, shown) as table:
        table.refresh(trials, now=True)
        for trial in trials:
            table.ended(trial, trials)
    assert "trial 2  failed after 0/10 epochs" in written(shown)
    assert ODD in written(shown)
