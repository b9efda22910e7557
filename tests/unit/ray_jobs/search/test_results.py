import json
import math
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from ray_jobs.job.toml import check, read_job_text
from ray_jobs.report.search_page import render_search
from ray_jobs.search.config import SearchConfig, is_maximized
from ray_jobs.search.records import SearchDirectory, TrialRecord
from ray_jobs.search.results import (
    SearchFacts,
    SlotPool,
    best_job,
    kept_trials,
    pareto_front,
    ranked,
    write_results,
)
from ray_jobs.search.space import Space, job_with

ONE = SearchConfig()
THREE = SearchConfig(objectives=("val/macro_f1", "latency_ms", "parameters"))
POOL = SlotPool(2, 100.0, 5.0)
STATES = ["running", "finished", "stopped", "diverged", "failed"]


@st.composite
def trials(draw: st.DrawFn, config: SearchConfig) -> list[TrialRecord]:
    """Few values each, so that ties are common."""
    value = st.none() | st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, math.nan, math.inf])
    found: list[TrialRecord] = []
    for number in range(draw(st.integers(0, 8))):
        finite = draw(st.booleans())
        each = st.sampled_from([0.0, 1.0, 2.0, 3.0]) if finite else value
        values = tuple(draw(each) for _ in config.objectives)
        state = draw(st.sampled_from(["finished", *STATES]))
        options = {"values": values if draw(st.integers(0, 9)) else (), "state": state}
        found.append(TrialRecord(number, {"model.dropout": number / 100}, is_default=number == 0, **options))
    return found


def costs(config: SearchConfig, trial: TrialRecord) -> list[float]:
    return [
        -(value or 0.0) if is_maximized(name) else (value or 0.0)
        for name, value in zip(config.objectives, trial.values, strict=True)
    ]


def is_beaten(config: SearchConfig, trial: TrialRecord, others: list[TrialRecord]) -> bool:
    own = costs(config, trial)
    each = [costs(config, other) for other in others]
    return any(all(a <= b for a, b in zip(cost, own, strict=True)) and cost != own for cost in each)


@given(trials(THREE))
def test_no_trial_of_the_front_is_beaten_and_every_other_one_is_by_the_front(records: list[TrialRecord]):
    front = pareto_front(THREE, records)
    able = [
        record
        for record in records
        if record.state == "finished"
        and record.values
        and all(value is not None and math.isfinite(value) for value in record.values)
    ]
    assert bool(front) is bool(able)
    for record in records:
        if record in front:
            assert record in able
            assert not is_beaten(THREE, record, able)
        elif record in able:
            assert is_beaten(THREE, record, front)
    assert [record.number for record in front] == sorted(record.number for record in front)


@pytest.mark.parametrize("objective", ["val/top1", "val/loss"])
@given(data=st.data())
def test_finished_trials_rank_before_those_ended_early_and_better_before_worse(objective: str, data: st.DataObject):
    config = SearchConfig.model_validate({"objectives": (objective,)})
    records = data.draw(trials(config))
    found = ranked(config, records)
    for record in records:
        value = record.values[0] if record.values else None
        able = value is not None and math.isfinite(value) and record.state in ("finished", "stopped")
        assert (record in found) is able
    for better, worse in pairwise(found):
        keys = [(each.state != "finished", costs(config, each)[0], each.number) for each in (better, worse)]
        assert keys[0] < keys[1]


@given(trials(THREE), st.sampled_from([ONE, THREE]))
def test_what_is_kept_is_the_default_the_best_and_the_front(records: list[TrialRecord], config: SearchConfig):
    if config is ONE:
        records = [replace(record, values=record.values[:1]) for record in records]
    kept = kept_trials(config, records)
    best = ranked(config, records)[:1]
    front = pareto_front(config, records) if config is THREE else []
    assert kept == {record.digest for record in [*records[:1], *best, *front]}


@pytest.fixture
def facts(space: Space) -> SearchFacts:
    tree = {
        "name": "casting",
        "data": {"root": "x", "image_size": 64, "image_width": 96},
        "model": {"arch": "resnet18"},
        "optimizer": {"clip_norm": 1.0},
        "training": {"epochs": 3},
        "cluster": {"num_workers": 2, "cpus_per_worker": 1, "use_gpu": False},
    }
    return SearchFacts("casting", check(tree), ONE, space, classes=4, train=700, val=150)


@pytest.fixture
def directory(tmp_path: Path) -> SearchDirectory:
    return SearchDirectory.named(str(tmp_path), "casting")


def some(values: int) -> list[TrialRecord]:
    """One of each kind, with all that may be missing missing."""
    point = {
        "optimizer.learning_rate": 0.02,
        "freezing.freeze_depth": 2,
        "schedule.kind": "polynomial",
        "schedule.polynomial_power": 1.5,
        "augmentation.crop_area": (0.6, 1.0),
        "optimizer.clip_norm": 1.0,
    }
    plain = {name: value for name, value in point.items() if not name.startswith("schedule.")}
    epochs = [{"epoch": float(epoch), "val/macro_f1": 0.2 * epoch, "val/loss": 1.0} for epoch in (1, 2, 3)]
    spent = {"slot": 1, "queued_s": 1.0, "started_s": 3.0, "ended_s": 13.0}
    reuse = {"hits": 4.0, "misses": 2.0, "computing_s": 6.0, "reading_s": 1.0, "stored_bytes": 1000.0}
    full = (0.6, 4.5, 1.1e7)[:values]
    return [
        TrialRecord(0, point, is_default=True, state="finished", values=full, history=tuple(epochs), **spent),
        TrialRecord(1, point | {"schedule.polynomial_power": 2.0}, state="stopped", ended_by="scheduler",
                    values=(0.7, None, None)[:values], history=tuple(epochs[:1]), reuse=reuse, **spent),
        TrialRecord(2, plain | {"freezing.freeze_depth": 5, "optimizer.clip_norm": None}, state="diverged",
                    values=(math.nan, None, None)[:values], history=({**epochs[0], "val/loss": math.inf},), **spent),
        TrialRecord(3, plain | {"freezing.freeze_depth": 4}, state="failed", error="a <b>\n[red]line[/]"),
        TrialRecord(4, point | {"optimizer.learning_rate": 0.3}, state="running", ended_by="hours", repeats=2,
                    queued_s=4.0),
        TrialRecord(5, point | {"optimizer.learning_rate": 0.1}, state="finished", values=(0.65, 9.0, 2e7)[:values],
                    history=tuple(epochs), **spent),
    ]  # fmt: skip


@pytest.mark.parametrize("config", [ONE, THREE])
@pytest.mark.parametrize("count", [0, 1, 4, 6])
def test_search_json_is_what_the_report_reads(
    directory: SearchDirectory, facts: SearchFacts, config: SearchConfig, count: int
):
    records = some(len(config.objectives))[-count:] if count else []
    importance = {"optimizer.learning_rate": 0.75, "freezing.freeze_depth": 0.25} if count > 4 else None
    write_results(directory, replace(facts, config=config), records, POOL, importance)
    search = json.loads(directory.store.read("search.json"))
    page = render_search(search)
    assert "casting" in page
    assert len(search["trials"]) == count
    assert search["best"] == (5 if count else None)
    assert search["epochs"] == {"trained": sum(len(record.history) for record in records), "full_search": 3 * count}
    assert search["job"]["image_size"] == [64, 96]
    if count == 6:
        assert search["front"] == ([0, 5] if config is THREE else [])
        assert search["pool"] == {
            "slots": 2, "wall_s": 100.0, "startup_s": 5.0, "waiting_s": 8.0, "training_s": 40.0,
        }  # fmt: skip
        assert search["reuse"] == {"hits": 4, "misses": 2, "stored_bytes": 1000, "saved_s": 11.0}
        assert search["trials"][2]["history"][0]["val/loss"] == "inf"
        assert [trial["ended_by"] for trial in search["trials"]] == [None, "scheduler", None, None, "hours", None]
        assert [trial["reused_record"] for trial in search["trials"]] == [False] * 4 + [True, False]


@pytest.mark.parametrize("config", [ONE, THREE])
def test_trials_parquet_reads_back(directory: SearchDirectory, facts: SearchFacts, config: SearchConfig):
    records = some(len(config.objectives))
    write_results(directory, replace(facts, config=config), records, POOL, None)
    table = parquet.read_table(BytesIO(directory.store.read("trials.parquet"))).to_pydict()
    assert table["number"] == list(range(6))
    assert table["digest"] == [record.digest for record in records]
    assert table["state"] == [record.state for record in records]
    assert table["ended_by"] == [None, "scheduler", None, None, "hours", None]
    assert table["error"][3] == "a <b>\n[red]line[/]"
    assert table["epochs"] == [3, 1, 1, 0, 0, 3]
    for place, name in enumerate(config.objectives):
        found = [None if value is None or math.isnan(value) else value for value in table[name]]
        assert found == [[0.6, 4.5, 1.1e7][place], [0.7, None, None][place], None, None, None, [0.65, 9.0, 2e7][place]]
    assert table["optimizer.learning_rate"] == [0.02, 0.02, 0.02, 0.02, 0.3, 0.1]
    assert table["schedule.kind"] == ['"polynomial"', '"polynomial"', None, None, '"polynomial"', '"polynomial"']
    assert [json.loads(text) for text in table["augmentation.crop_area"]] == [[0.6, 1.0]] * 6


def test_a_search_without_trials_has_a_table_too(directory: SearchDirectory, facts: SearchFacts):
    write_results(directory, facts, [], POOL, None)
    table = parquet.read_table(BytesIO(directory.store.read("trials.parquet")))
    assert table.num_rows == 0
    assert {"number", "val/macro_f1", "optimizer.learning_rate"} <= set(table.column_names)
    assert not directory.store.exists("best.toml")


def test_best_toml_is_the_job_of_the_best_trial(directory: SearchDirectory, facts: SearchFacts):
    records = some(1)
    write_results(directory, facts, records, POOL, None)
    job = read_job_text(directory.store.read("best.toml").decode(), "best.toml")
    assert job.name == "casting-best"
    assert job.model_copy(update={"name": "casting"}) == job_with(facts.job, records[5].params)
    assert job.optimizer.learning_rate == 0.1
    write_results(directory, facts, records[2:4], POOL, None)
    assert read_job_text(directory.store.read("best.toml").decode(), "best.toml") == job


@given(st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", fullmatch=True))
@example("abcde." + "x" * 94)
def test_a_name_of_any_length_becomes_the_best_jobs(name: str):
    job = check({"name": name, "data": {"root": "x"}})
    space = Space.of({"model.dropout": {"uniform": [0.0, 0.5]}})
    best = best_job(SearchFacts(name, job, ONE, space, 2, 1, 1), TrialRecord(0, {"model.dropout": 0.25}))
    assert check(best.model_dump()) == best
    assert (best.name or "").endswith("-best")
    assert best.name != name or name.endswith("-best")


def test_what_the_best_came_to_on_test_images_is_reported(directory: SearchDirectory, facts: SearchFacts):
    judged = {
        "metric": "macro_f1", "best": 0.9, "best_interval": [0.8, 0.95], "default": 0.7, "default_interval": [0.6, 0.8],
        "difference": 0.2, "difference_interval": [0.1, 0.3], "samples": 321,
    }  # fmt: skip
    write_results(directory, facts, some(1), POOL, None, judged)
    search = json.loads(directory.store.read("search.json"))
    assert search["test"] == judged
    assert "321 test images" in render_search(search)


def test_reuse_is_absent_where_nothing_was_shared(
    directory: SearchDirectory, facts: SearchFacts, make_trial: Callable[..., Any]
):
    trial = make_trial(0, 0.5)
    write_results(directory, facts, [trial], POOL, None)
    assert json.loads(directory.store.read("search.json"))["reuse"] is None
    counts = {"hits": 4.0, "misses": 0.0, "computing_s": 0.0, "reading_s": 1.0, "stored_bytes": 0.0}
    write_results(directory, facts, [replace(trial, reuse=counts)], POOL, None)
    assert json.loads(directory.store.read("search.json"))["reuse"]["saved_s"] == 0.0
