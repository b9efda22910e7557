"""A student learns from a teacher alike with any number of workers, goes on alike, and is refused where it must be."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml_codec import merged
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.driver import run_train

pytestmark = pytest.mark.usefixtures("shared_ray")
JobMaker = Callable[..., JobConfig]


def taught(teacher: Any, **more: Any) -> dict[str, Any]:
    """Overrides for a student of a trained run."""
    return merged({"distillation": {"teacher": RunDirectory.named(teacher.job.storage.root, "undisturbed").uri}}, more)


def test_several_workers_learn_from_a_teacher_what_one_learns(
    make_job: JobMaker, assert_same: Callable[..., None], undisturbed: Any, learnt: Callable[..., Any]
) -> None:
    more = {"distillation": {"features": 2.0}, "training": {"epochs": 1, "mixup_alpha": 0.3}}
    jobs = [make_job(f"student-{workers}", workers, taught(undisturbed, **more)) for workers in (1, 2, 3)]
    outcomes = [run_train(job) for job in jobs]
    assert outcomes[0].metrics == outcomes[1].metrics == outcomes[2].metrics
    for other in jobs[1:]:
        assert_same(jobs[0], other)
    alone = make_job("alone", 1, {"training": more["training"]})
    run_train(alone)
    one, other = learnt(jobs[0]), learnt(alone)
    assert any(not torch.equal(one[name], other[name]) for name in one)
