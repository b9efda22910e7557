"""What a run keeps of the GPUs that its jobs used."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.jobs import HeldGpus
from cluster.storage.store import Store
from ray_jobs.submission.usage_record import UsageLog, held_gpus_of, read_usage

HELD_GPUS = HeldGpus("team-a", "vision", "welds", "nvidia.com/mig-1g.10gb", 3)


def write(run: Path, attempt: int = 1) -> Path:
    UsageLog(Store.open(str(run)), "abc-1", HELD_GPUS, attempt).write()
    return run / "logs" / f"usage-abc-1-{attempt}.json"


def test_an_attempt_is_recorded_from_its_begin_to_its_end(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "run"))
    log = UsageLog(store, "abc-1", HELD_GPUS, 1)
    log.write()
    (begun,) = read_usage(store)
    assert begun is not None
    assert (begun.held, begun.has_ended) == (HELD_GPUS, False)
    assert 0 <= (begun.seen - begun.began).total_seconds() < 60
    log.write(has_ended=True)
    UsageLog(store, "abc-1", HELD_GPUS, 2).write()
    first, second = read_usage(store)
    assert first is not None
    assert second is not None
    assert (first.has_ended, first.began, second.has_ended) == (True, begun.began, False)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"held": {}}, {"began": "yesterday"}, {"began": "2026-01-01T00:00:00"}, {"more": 1},
        {"held": {**vars(HELD_GPUS), "devices": "many"}}, {"seen": None},
    ],
)  # fmt: skip
def test_a_damaged_record_is_none_and_the_others_are_read(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write(tmp_path)
    write(tmp_path, 2)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    first, second = read_usage(Store.open(str(tmp_path)))
    assert first is None
    assert second is not None


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b"{}" + b" " * 70_000])
def test_what_is_no_record_is_none(tmp_path: Path, data: bytes) -> None:
    write(tmp_path).write_bytes(data)
    assert list(read_usage(Store.open(str(tmp_path)))) == [None]


def test_a_run_without_records_has_none(tmp_path: Path) -> None:
    assert list(read_usage(Store.open(str(tmp_path / "absent")))) == []


@given(st.text())
def test_what_names_no_gpus_is_no_error(text: str) -> None:
    assert held_gpus_of(text) is None
    assert held_gpus_of(HELD_GPUS.to_json()) == HELD_GPUS
