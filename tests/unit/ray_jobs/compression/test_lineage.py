"""A run's ancestors are those that it was made from, wherever its storage root lies now, or there is an error."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ray_jobs.compression.lineage import lineage
from ray_jobs.compression.phase_job import root_of_result
from ray_jobs.run.compression_record import Ancestor, CompressionRecord, read_record, write_record
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.teacher_run import run_digest
from resnet_dist.errors import RunError
from tests.untrained_run import untrained_run


@pytest.fixture
def small(tmp_path: Path) -> RunDirectory:
    """A run that says that it came from "whole" beside it."""
    root = untrained_run(tmp_path, "whole", epochs=1)
    whole = Ancestor("whole", run_digest(RunDirectory.named(str(root), "whole")))
    shutil.copytree(root / "runs/whole", root / "runs/small")
    found = RunDirectory.named(str(root), "small")
    write_record(found, CompressionRecord("prune", whole, whole))
    return found


def test_ancestors_are_those_of_the_root_that_a_run_lies_under_now(small: RunDirectory, tmp_path: Path):
    assert [(each.run.name, each.phase) for each in lineage(small)] == [("whole", "train"), ("small", "prune")]
    (tmp_path / "storage").rename(tmp_path / "runs of old")
    moved = RunDirectory.find(f"{tmp_path}/runs of old/runs/small/", "")
    assert [each.run.uri for each in lineage(moved)] == [
        f"{tmp_path}/runs of old/runs/{name}" for name in ("whole", "small")
    ]
    assert root_of_result(moved, {}) == f"{tmp_path}/runs of old"
    assert root_of_result(moved, {"storage": {"root": "s3://bucket"}}) == "s3://bucket"


def test_a_run_that_lies_under_no_root_has_its_ancestors_where_it_was_made(small: RunDirectory, tmp_path: Path):
    Path(small.uri).rename(tmp_path / "taken away")
    taken = RunDirectory.find(f"{tmp_path}/taken away", "")
    assert [each.run.name for each in lineage(taken)] == ["whole", "taken away"]
    shutil.rmtree(tmp_path / "storage")
    with pytest.raises(RunError, match=r"taken away was made from whole: .*; restore it"):
        lineage(taken)


def test_an_ancestor_that_was_trained_further_is_no_ancestor(small: RunDirectory):
    record = read_record(small)
    assert record is not None
    write_record(small, replace(record, parent=Ancestor("whole", "0" * 16)))
    with pytest.raises(RunError, match=r"with the digest 0000000000000000, and .* restore the one that it was"):
        lineage(small)
