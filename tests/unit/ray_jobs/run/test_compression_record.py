"""What a compressed run says of its parent is read as it was written, or refused by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_jobs.run.compression_record import (
    INITIAL,
    RECORD,
    Ancestor,
    CompressionRecord,
    initial_weights,
    read_record,
    run_text,
    write_record,
)
from ray_jobs.run.directory import RunDirectory
from resnet_dist.errors import RunError
from resnet_dist.sealed_json import sealed

WHOLE = Ancestor("tiles", "0123456789abcdef")
FOUND = CompressionRecord(
    phase="prune",
    parent=Ancestor("tiles-pruned-round1", "fedcba9876543210"),
    teacher=WHOLE,
    request={"target": "macs=0.5", "rounds": 3},
    plan={"kept_share": 0.93},
    seconds={"score": 1.5},
)


def run_in(folder: Path) -> RunDirectory:
    return RunDirectory.named(str(folder), "tiles-pruned")


def test_a_run_that_was_not_compressed_says_nothing(tmp_path: Path):
    assert read_record(run_in(tmp_path)) is None
    assert initial_weights(run_in(tmp_path)) is None


def test_a_record_reads_back_and_its_weights_to_the_bit(tmp_path: Path):
    run, weights = run_in(tmp_path), {"fc.weight": torch.randn(3, 4), "bn1.num_batches_tracked": torch.tensor(7)}
    written = write_record(run, FOUND, weights)
    assert read_record(run) == written
    assert replace(written, initial_sha256="") == FOUND
    found = initial_weights(run)
    assert found is not None
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_without_weights_the_run_starts_as_its_job_says(tmp_path: Path):
    write_record(run_in(tmp_path), FOUND)
    assert initial_weights(run_in(tmp_path)) is None


@pytest.mark.parametrize("change", ["missing", "truncated", "another"])
def test_weights_that_were_lost_or_changed_are_refused_by_name(tmp_path: Path, change: str):
    run = run_in(tmp_path)
    write_record(run, FOUND, {"fc.weight": torch.zeros(2, 2)})
    path = tmp_path / "runs" / "tiles-pruned" / INITIAL
    data = path.read_bytes()
    match change:
        case "missing":
            path.unlink()
        case "truncated":
            path.write_bytes(data[:-1])
        case _:
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(RunError, match=rf"{INITIAL} .*delete the run's folder"):
        initial_weights(run)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"phase": "train"},
        {"parent": {"run": "tiles"}},
        {"teacher": None},
        {"plan": []},
        {"seconds": "3"},
    ],
)
def test_a_damaged_record_is_refused_by_name(tmp_path: Path, change: dict[str, Any]):
    run = run_in(tmp_path)
    run.store.write(RECORD, sealed({**FOUND.to_json(), **change}))
    with pytest.raises(RunError, match=rf"tiles-pruned/{RECORD} cannot be used"):
        read_record(run)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_changed_byte_is_believed(tmp_path: Path, data: st.DataObject):
    run = run_in(tmp_path)
    write_record(run, FOUND)
    whole = run.store.read(RECORD)
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    run.store.write(RECORD, bytes(changed))
    with pytest.raises(RunError, match=RECORD):
        read_record(run)


def test_a_run_is_named_by_what_finds_it(tmp_path: Path):
    run = run_in(tmp_path)
    assert run_text(run, str(tmp_path)) == "tiles-pruned"
    assert run_text(run, str(tmp_path / "elsewhere")) == run.uri
