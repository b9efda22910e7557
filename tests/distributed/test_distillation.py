"""Students on real workers: any number of them learns the same, goes on, and needs its teacher until it is done."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ray_jobs import api
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import read_job
from ray_jobs.job.toml_codec import merged
from ray_jobs.run.directory import RunDirectory
from ray_jobs.search.dry_run import plan_search
from ray_jobs.search.records import SearchDirectory
from ray_jobs.search.toml import read_search_text
from ray_jobs.search.tune import run_tune
from ray_jobs.training.driver import run_train
from resnet_dist.errors import RunError

pytestmark = pytest.mark.usefixtures("shared_ray")

JobMaker = Callable[..., JobConfig]
MakeStudent = Callable[..., JobConfig]


@pytest.fixture
def make_student(make_job: JobMaker, tmp_path: Path, undisturbed: Any) -> MakeStudent:
    """A tiny job that learns from a copy of a trained run, tmp_path/storage/runs/large."""
    source = RunDirectory.named(undisturbed.job.storage.root, "undisturbed").uri
    shutil.copytree(source, tmp_path / "storage/runs/large")

    def make(name: str, workers: int = 1, overrides: dict[str, Any] | None = None) -> JobConfig:
        tree: dict[str, Any] = {"distillation": {"teacher": "large"}, "training": {"epochs": 1}}
        return make_job(name, workers, merged(tree, overrides or {}))

    return make


def test_several_workers_learn_what_one_learns_and_a_student_goes_on_with_its_teacher(
    make_student: MakeStudent, assert_same: Callable[..., None], learnt: Callable[..., Any], tmp_path: Path
) -> None:
    options = {"distillation": {"features": 2.0}, "training": {"mixup_alpha": 0.3}}
    jobs = [make_student(f"student-{workers}", workers, options) for workers in (1, 3)]
    outcomes = [run_train(job) for job in jobs]
    assert outcomes[0].metrics == outcomes[1].metrics
    assert_same(*jobs)
    alone = make_student("alone", 1, {"distillation": {"teacher": None}})
    run_train(alone)
    one, other = (learnt(job) for job in (jobs[0], alone))
    assert any(not torch.equal(one[name], other[name]) for name in one)
    log = "".join(path.read_text() for path in (tmp_path / "storage/runs/student-1/logs").iterdir())
    assert "teacher: large" in log

    longer = make_student("student-1", 1, merged(options, {"training": {"epochs": 2}}))
    shutil.move(tmp_path / "storage/runs/large", tmp_path / "large")
    with pytest.raises(RunError, match=r"distillation.teacher=large: 'large' is no run"):
        api.train(longer)
    assert api.train(jobs[0]).already_finished
    elsewhere = merged(options, {"training": {"epochs": 2}, "distillation": {"teacher": str(tmp_path / "large")}})
    assert api.train(make_student("student-1", 1, elsewhere)).epochs == 2


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(make_student: MakeStudent, assert_same: Callable[..., None]) -> None:
    jobs = [make_student(f"student-{workers}", workers) for workers in (1, 2)]
    for job in jobs:
        run_train(job)
    assert_same(*jobs)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0, 5])
def test_trials_share_answers_and_the_best_trains_again_to_the_bit(
    make_student: MakeStudent, tmp_path: Path, depth: int
) -> None:
    job = make_student("search", 1, {"freezing": {"freeze_depth": depth}})
    text = f"""
        trials = 3
        sampler = "random"
        scheduler = "none"
        reuse = "on"
        reuse_folder = "{tmp_path / "features"}"
        max_concurrent_trials = 1
        [space]
        "distillation.temperature" = {{ uniform = [1.0, 8.0] }}
        "distillation.weight" = {{ uniform = [0.1, 1.0] }}
    """
    outcome = run_tune(job, *read_search_text(text, "a test"))
    assert [record.state for record in outcome.records] == ["finished"] * 3
    assert outcome.best is not None
    first, *others = (record.reuse or {} for record in outcome.records)
    assert first["misses"] > 0
    assert all(each["misses"] == 0 and each["hits"] > 0 for each in others)

    best = read_job(Path(outcome.best_file), {})
    assert best.distillation.teacher_digest is not None
    run_train(best)
    trial = RunDirectory(SearchDirectory.named(job.storage.root, "search").trial(outcome.best.digest))
    one, other = (
        each.checkpoint("last").weights() for each in (trial, RunDirectory.named(job.storage.root, best.name or ""))
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_search_of_the_images_size_is_refused_with_a_teacher(make_student: MakeStudent) -> None:
    text = '[space]\n"data.image_size" = { categorical = [32, 64] }'
    with pytest.raises(ConfigError, match=r"space data.image_size: cannot be searched with distillation.teacher=large"):
        run_tune(make_student("search"), *read_search_text(text, "a test"))


def test_a_dry_run_counts_what_the_teacher_takes(make_student: MakeStudent) -> None:
    search = read_search_text('[space]\n"freezing.freeze_depth" = { categorical = [1, 5] }', "a test")
    alone = make_student("alone", 1, {"distillation": {"teacher": None}})
    taught, untaught = (plan_search(job, *search).costs for job in (make_student("search"), alone))
    assert taught.keys() == untaught.keys() == {1, 5}
    assert all(cost.teacher_s == 0.0 for cost in untaught.values())
    for cost in taught.values():
        assert cost.teacher_s > 0.0
        assert cost.whole_s == pytest.approx(cost.images_s + cost.trunk_s + cost.teacher_s + cost.suffix_s)
