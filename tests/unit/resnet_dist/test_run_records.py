"""Metrics in parts, and the status."""

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.storage.store import Store
from resnet_dist.errors import RunError
from resnet_dist.run_records import MetricLog, Status, cut_back, read_metrics

ONE, TWO = (1, "a"), (2, "b")


def steps(store: Store, *believed: tuple[int, str]) -> list[float]:
    return [record["step"] for record in read_metrics(store, believed)]


def test_parts_are_believed_by_claim_and_cut_back_to_a_step(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    first = MetricLog(store, ONE)
    for step in range(1, 6):
        first.append({"step": step, "train/loss": 1.0 / step})
        if step % 2:
            first.flush()
    stranger = MetricLog(store, (7, "x"))
    stranger.append({"step": 1, "train/loss": 9.0})
    stranger.flush()
    assert steps(store, ONE) == [1, 2, 3, 4, 5]
    cut_back(store, {ONE}, 2)
    second = MetricLog(store, TWO)
    second.append({"step": 3, "train/loss": math.nan, "train/x": math.inf})
    second.flush()
    records = read_metrics(store, {ONE, TWO})
    assert [record["step"] for record in records] == [1, 2, 3]
    assert math.isnan(records[-1]["train/loss"])
    assert records[-1]["train/x"] == math.inf
    header = json.loads(store.read("metrics/part-000002-000000.jsonl").splitlines()[0])
    assert {name: header[name] for name in ("schema", "generation", "token")} == {
        "schema": 1,
        "generation": 2,
        "token": "b",
    }


def test_a_run_that_owes_the_validation_of_its_last_step_writes_that_record_again(tmp_path: Path) -> None:
    """As when a worker dies between the epoch's metrics and its checkpoint, and one of the last step is stored."""
    store = Store.open(str(tmp_path))
    log = MetricLog(store, ONE)
    epochs = [{"step": 3, "train/loss": 1.0}, {"step": 3, "val/loss": 2.0}]
    later = [{"step": 6, "train/loss": 0.5}, {"step": 6, "val/loss": 1.0}]
    for record in (*epochs, *later):
        log.append(record)
    log.flush()
    cut_back(store, {ONE}, 6, validation_owed=True)
    assert read_metrics(store, {ONE}) == [*epochs, later[0]]
    cut_back(store, {ONE}, 3, validation_owed=False)
    assert read_metrics(store, {ONE}) == epochs


@given(
    attempts=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 4), st.integers(0, 8)), min_size=1, max_size=5),
    values=st.lists(st.floats(), min_size=8, max_size=8),
)
def test_however_often_it_is_resumed_every_step_is_there_once(
    attempts: list[tuple[int, int, int]], values: list[float]
) -> None:
    """Each attempt goes on from a step at or before the last one, flushes every few steps, and may lose the rest."""
    with tempfile.TemporaryDirectory() as folder:
        store, claims, reached = Store.open(folder), list[tuple[int, str]](), 0
        for number, (length, every, back) in enumerate(attempts):
            start = max(reached - back, 0)
            claims.append((number + 1, f"token {number}"))
            cut_back(store, claims, start)
            log = MetricLog(store, claims[-1])
            for step in range(start + 1, start + length + 1):
                log.append({"step": step, "train/loss": values[step % 8]})
                if step % every == 0:
                    log.flush()
            reached = max(start, (start + length) // every * every)
            records = read_metrics(store, claims)
            assert [record["step"] for record in records] == list(range(1, reached + 1))
            for record in records:
                written = values[int(record["step"]) % 8]
                assert record["train/loss"] == written or math.isnan(written)


@pytest.mark.parametrize(
    ("written", "changed"), [(b"0.5", b"0.9"), (b'"a"', b'"b"'), (b'"generation": 1', b'"generation": 2')]
)
def test_one_changed_digit_of_a_part_is_named(tmp_path: Path, written: bytes, changed: bytes) -> None:
    store, path = Store.open(str(tmp_path)), "metrics/part-000001-000000.jsonl"
    log = MetricLog(store, ONE)
    log.append({"step": 1, "train/loss": 0.5})
    log.flush()
    whole = store.read(path)
    assert written in whole
    store.write(path, whole.replace(written, changed, 1))
    with pytest.raises(RunError, match=r"000000\.jsonl is damaged \(its own hash does not fit\); delete it"):
        read_metrics(store, {ONE})


def test_a_part_of_before_parts_were_sealed_is_read(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    lines = ['{"schema": 1, "generation": 1, "token": "a"}', '{"step": 1, "train/loss": 0.5}']
    store.write("metrics/part-000001-000000.jsonl", ("\n".join(lines) + "\n").encode())
    assert read_metrics(store, {ONE}) == [{"step": 1, "train/loss": 0.5}]


DAMAGE = ["", "[]\n", "[" * 9_999, '{"schema": 1, "generation": 1, "token": "a"}\n{"loss": 1.0}\n', "{"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_named_with_a_remedy(tmp_path: Path, damage: str) -> None:
    store = Store.open(str(tmp_path))
    store.write("metrics/part-000001-000000.jsonl", damage.encode())
    with pytest.raises(RunError, match=r"metrics/part-000001-000000\.jsonl is damaged .*delete it"):
        read_metrics(store, {ONE})


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_set_aside_by_who_holds_the_run(tmp_path: Path, damage: str) -> None:
    store = Store.open(str(tmp_path))
    log = MetricLog(store, ONE)
    for step in (1, 2):
        log.append({"step": step})
        log.flush()
    first, second = (f"part-000001-00000{place}.jsonl" for place in range(2))
    store.write(f"metrics/{first}", damage.encode())
    (said,) = cut_back(store, {ONE}, 2)
    assert f"metrics/{first} is damaged" in said
    assert f"metrics/damaged/{first}" in said
    assert store.read(f"metrics/damaged/{first}") == damage.encode()
    assert read_metrics(store, {ONE}) == [{"step": 2}]
    assert cut_back(store, {ONE}, 2) == []
    assert store.list("metrics") == ["damaged", second]


def test_status_is_strict_json_and_round_trips() -> None:
    metrics = {"val/loss": math.nan, "val/top1": 0.5}
    numbers = {"images_per_second": 9.0, "learning_rate": 0.1, "data_wait_share": 0.25, "eta_s": 7.0}
    status = Status(state="running", submission="s", step=3, metrics=metrics, tracker="/run", messages=2, **numbers)
    text = json.dumps(status.to_json(), allow_nan=False)
    again = Status.from_json(json.loads(text))
    assert again.step == 3
    assert again.metrics["val/top1"] == 0.5
    assert math.isnan(again.metrics["val/loss"])
    assert again.updated
    assert {name: getattr(again, name) for name in numbers} == numbers
    assert (again.tracker, again.messages) == ("/run", 2)


@pytest.mark.parametrize(
    "change",
    [
        *({"schema": 2}, {"metrics": None}, {"metrics": {"x": []}}, {"metrics": {"x": 10**400}}, {"surprise": 1}),
        *({"step": "three"}, {"step": 3.5}, {"state": "lost"}, {"eta_s": []}, {"message": None}, {"exit_code": "2"}),
    ],
)
def test_another_status_is_a_value_error(change: dict[str, object]) -> None:
    stored = Status(state="done", submission="s").to_json()
    with pytest.raises(ValueError, match=r"status\.json"):
        Status.from_json({**stored, **change})


def test_whole_numbers_stay_whole_and_other_files_are_no_parts(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    log = MetricLog(store, ONE)
    for step in (1, 2):
        log.append({"step": step, "train/loss": 0.5})
    log.flush()
    store.write("metrics/part-000001-000000.jsonl.bak", b"a person's copy")
    cut_back(store, {ONE}, 1)
    assert b'"step": 1,' in store.read("metrics/part-000001-000000.jsonl")
    assert read_metrics(store, {ONE}) == [{"step": 1, "train/loss": 0.5}]
