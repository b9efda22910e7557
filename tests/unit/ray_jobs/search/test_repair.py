"""A finished search's files against its records."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from ray_jobs.job.toml import check, read_job_text
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.records import SearchDirectory, TrialRecord
from ray_jobs.search.repair import repair_results, stored_test
from ray_jobs.search.results import SearchFacts, SlotPool, write_results
from ray_jobs.search.space import Space
from resnet_dist.sealed_json import unsealed

Make = Callable[..., TrialRecord]
FILES = ["search.json", "trials.parquet", "best.toml"]
TEST = {
    "metric": "macro_f1", "best": 0.9, "best_interval": [0.8, 0.95], "default": 0.7, "default_interval": [0.6, 0.8],
    "difference": 0.2, "difference_interval": [0.1, 0.3], "samples": 321,
}  # fmt: skip
SHARES = {"optimizer.learning_rate": 1.0}


class Finished:
    """A search that came to its end, and what was asked for again since."""

    def __init__(self, root: Path, records: list[TrialRecord]) -> None:
        job = check({"name": "casting", "data": {"root": "x"}, "training": {"epochs": 2}})
        space = Space.of({"optimizer.learning_rate": {"uniform": [0.001, 0.1]}})
        self.facts = SearchFacts("casting", job, SearchConfig(), space, classes=2, train=10, val=4)
        self.directory = SearchDirectory.named(str(root), "casting")
        self.store = self.directory.store
        self.records = records
        self.asked: list[str] = []
        for record in records:
            self.directory.write_trial(record)
            self.directory.trial(record.digest).write("checkpoints/step/model", b"x")
        write_results(self.directory, self.facts, records, SlotPool(2, 100.0, 5.0), SHARES, TEST)
        self.files = {name: self.store.read(name) for name in FILES}

    def repair(self) -> list[str]:
        return repair_results(self.directory, self.facts, self.records, 1, self._importance, self._judge)

    def _importance(self) -> dict[str, float]:
        self.asked.append("importance")
        return SHARES

    def _judge(self, best: TrialRecord, default: TrialRecord) -> dict[str, Any]:
        self.asked.append(f"{best.number} against {default.number}")
        return TEST

    def search(self) -> dict[str, Any]:
        return unsealed(self.store.read("search.json"))

    def said(self) -> dict[str, Any]:
        return {name: value for name, value in self.search().items() if name != "made"}


@pytest.fixture
def finished(tmp_path: Path, make_trial: Make) -> Finished:
    """Of three trials the second is the best."""
    curves = [(0.5, 0.6), (0.5, 0.9), (0.4,)]
    records = [make_trial(number, *curve, is_default=number == 0) for number, curve in enumerate(curves)]
    records[2] = replace(records[2], state="stopped", ended_by="scheduler")
    return Finished(tmp_path, records)


def test_what_fits_is_left_alone(finished: Finished):
    assert finished.repair() == []
    test = stored_test(finished.store)
    assert test is not None
    assert (test.best, test.samples) == (TEST["best"], TEST["samples"])
    assert {name: finished.store.read(name) for name in FILES} == finished.files
    assert finished.asked == []


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[1]", b"null", b"[" * 100_000])
@pytest.mark.parametrize("name", FILES)
def test_what_is_missing_or_damaged_is_written_again(finished: Finished, name: str, content: bytes | None):
    before = finished.said()
    if content is None:
        finished.store.delete(name)
    else:
        finished.store.write(name, content)
    assert finished.repair() == [name]
    after = finished.said()
    if name == "search.json":  # how long it took is known nowhere else
        assert finished.asked == ["1 against 0", "importance"]
        before["pool"] |= {"slots": 1, "wall_s": 0.0, "startup_s": 0.0}
        before["slots"] = 1
    else:
        assert finished.asked == []
    assert after == before
    for other in FILES[1:]:
        assert finished.store.read(other) == finished.files[other]
    assert finished.repair() == []


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"trials": []},
        {"pool": None},
        {"pool": {"slots": "two"}},
        {"best": 0},
        {"best": 9},
        {"test": {"metric": "macro_f1"}},
        {"objectives": []},
        {"epochs": {"trained": 0, "full_search": 0}},
    ],
)
def test_a_search_json_that_says_something_else_is_written_again(finished: Finished, change: dict[str, Any]):
    before = finished.said()
    finished.directory.write_sealed("search.json", finished.search() | change)
    assert finished.repair() == ["search.json"]
    after = finished.said()
    assert {name: after[name] for name in ("trials", "best", "epochs", "test", "importance")} == {
        name: before[name] for name in ("trials", "best", "epochs", "test", "importance")
    }


def test_one_changed_digit_of_search_json_is_written_again(finished: Finished):
    whole = finished.store.read("search.json")
    finished.store.write("search.json", whole.replace(b'"wall_s": 100.0', b'"wall_s": 900.0'))
    assert finished.repair() == ["search.json"]
    assert finished.search()["pool"]["wall_s"] == 0.0


def test_files_from_before_the_last_trial_was_over_are_written_again(finished: Finished, make_trial: Make):
    """As a driver leaves them that is killed before the end of its search."""
    finished.records.append(make_trial(3, 0.7, 0.95))
    assert finished.repair() == FILES
    assert finished.asked == ["3 against 0", "importance"]
    assert finished.search()["best"] == 3
    assert finished.search()["pool"]["wall_s"] == 100.0
    assert parquet.read_table(BytesIO(finished.store.read("trials.parquet"))).num_rows == 4
    job = read_job_text(finished.store.read("best.toml").decode(), "best.toml")
    assert job.optimizer.learning_rate == finished.records[3].params["optimizer.learning_rate"]
    kept = [bool(finished.directory.trial(record.digest).list("checkpoints")) for record in finished.records[:3]]
    assert kept == [True, False, False]  # losers lose their checkpoints as they would have then


def test_where_a_best_job_runs_is_its_readers_to_change(finished: Finished):
    text = finished.store.read("best.toml").decode()
    job = read_job_text(text, "best.toml")
    changed = text.replace(f"num_workers = {job.cluster.num_workers}", f"num_workers = {job.cluster.num_workers + 1}")
    assert changed != text
    finished.store.write("best.toml", changed.encode())
    assert finished.repair() == []


def test_a_search_that_came_to_nothing_has_no_best_job(finished: Finished):
    finished.records[:] = [replace(record, state="failed", values=(), history=()) for record in finished.records]
    finished.store.delete("best.toml")
    assert finished.repair() == ["search.json", "trials.parquet"]
    assert not finished.store.exists("best.toml")
    assert finished.asked == ["importance"]
    assert finished.repair() == []
