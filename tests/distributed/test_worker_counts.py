"""With exact sums nothing depends on the number of workers, BatchNorm included."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray.train
import ray.train.torch

from data_pipeline.sources.build import training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from ray_jobs.data.prepare import decoder, prepare_data
from ray_jobs.evaluation.evaluate import run_evaluate
from ray_jobs.job.config import JobConfig
from ray_jobs.training.driver import run_train

pytestmark = pytest.mark.usefixtures("shared_ray")


@pytest.mark.parametrize("workers", [3, pytest.param(2, marks=pytest.mark.slow)])
def test_several_workers_learn_what_one_learns_to_the_bit(
    make_job: Callable[..., JobConfig], assert_same: Callable[..., None], undisturbed: Any, workers: int
) -> None:
    job = make_job(f"workers-{workers}", workers)
    assert run_train(job).metrics == undisturbed.outcome.metrics
    assert_same(job, undisturbed.job)


def test_a_run_is_judged_alike_by_any_number_of_workers(undisturbed: Any) -> None:

    tables = []
    results = []
    for workers in (1, 2, 3):
        where = {"storage": {"root": undisturbed.job.storage.root}, "evaluation": {"batch_size": 3}}
        where |= {"cluster": {"num_workers": workers, "cpus_per_worker": 1, "local_cpus": 4}}
        outcome = run_evaluate("undisturbed", None, "last", where)
        results.append(outcome.result)
        tables.append(pq.read_table(Path(outcome.run) / "evaluation" / "val.predictions.parquet"))
    assert results[0] == results[1] == results[2]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
    stored = json.loads((Path(undisturbed.job.storage.root) / "runs/undisturbed/evaluation/val.json").read_text())
    assert stored["metrics"] == results[0].metrics
    assert stored["samples"] == tables[0].num_rows == 11


PASSES = ((0, 0), (0, 2), (1, 0))
"""Epochs, and the step that each is begun at."""


def log_microbatches(config: dict[str, object]) -> None:
    """In a Ray worker: write down what its source yields, for an epoch from its start, from a step on, and the next."""
    job, folder = config["job"], Path(str(config["folder"]))
    assert isinstance(job, JobConfig)
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    samples = prepare_data(job).split("train")
    batch, microbatch = job.training.global_batch_size, job.training.microbatch_size
    lines = []
    spec = SourceSpec(job.data, decoder(job), job.augmentation, job.seed)
    with training_source(spec, samples, batch, microbatch, RankShare(rank, workers)) as source:
        ids = dict(zip(samples.keys.tolist(), samples.sample_ids, strict=True))
        for epoch, first_step in PASSES:
            for step in source.epoch(epoch, first_step):
                for each in step.microbatches:
                    pixels = np.ascontiguousarray(each.images.numpy()).tobytes()
                    digest = hashlib.sha256(pixels).hexdigest()
                    names = [ids[key] for key in each.keys.tolist()]
                    lines.append([epoch, first_step, step.index, each.index, names, digest])
    (folder / f"{workers}-{rank}.json").write_text(json.dumps(lines))


@pytest.mark.slow
def test_ray_workers_consume_the_same_microbatches_at_the_same_steps(
    make_job: Callable[..., JobConfig], tmp_path: Path
) -> None:
    job = make_job("ids")
    consumed = []
    for workers in (1, 2, 3):
        trainer = ray.train.torch.TorchTrainer(
            log_microbatches,
            train_loop_config={"job": job, "folder": str(tmp_path)},
            scaling_config=ray.train.ScalingConfig(num_workers=workers),
            run_config=ray.train.RunConfig(name="ids", storage_path=str(tmp_path / f"ray-{workers}")),
        )
        trainer.fit()
        parts = [json.loads((tmp_path / f"{workers}-{rank}.json").read_text()) for rank in range(workers)]
        consumed.append(sorted(line for part in parts for line in part))
    assert consumed[0] == consumed[1] == consumed[2]
    for begun in PASSES:
        seen = [name for epoch, first, _, _, names, _ in consumed[0] if (epoch, first) == begun for name in names]
        assert len(seen) == len(set(seen)) == 47 - 16 * begun[1]
    # What is begun in mid-epoch is what the whole epoch had there.
    whole, part = ([line[2:] for line in consumed[0] if tuple(line[:2]) == begun] for begun in PASSES[:2])
    assert part == [line for line in whole if line[0] >= 2]
