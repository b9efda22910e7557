"""What a trained network answers in 8 bits when nothing is learnt: only ranges are set, by some training images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray

from cluster.session.resources import plan_workers
from cluster.session.results import results
from cluster.session.session import cluster_resources, ray_session
from ray_jobs.bundles.export_data import RunData
from ray_jobs.compression.worker import Network, calibrate
from ray_jobs.data.node_images import NodeImages
from ray_jobs.evaluation.answers import Answers
from ray_jobs.evaluation.evaluate import Work, split_logits
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from resnet_dist.checkpoint.contents import Checkpoint
from resnet_dist.runtime.operating_point import OperatingPoint


def calibrated_answers(run: RunDirectory, found: Checkpoint, job: JobConfig, splits: Sequence[str]) -> list[Answers]:
    """To each of the splits of the run's images, of a checkpoint of it with calibrated ranges.

    `job` says where they are, and by its seed which images ranges are set by. Raises DataError where images are gone or
    have changed.
    """
    data = RunData.of(run, job)
    network = Network(
        job=job,
        model=found.model_json(),
        weights=found.weights(),
        train=data.train,
        images=NodeImages.of(job.data, data.train),
    )
    preprocess = replace(run.read_preprocess(), max_pixels=job.data.max_pixels)
    splits_of_run = {"train": data.train, "val": data.val} | ({} if data.test is None else {"test": data.test})
    answers: list[Answers] = []
    with ray_session(job.cluster):
        workers = plan_workers(job.cluster, *cluster_resources())
        options: dict[str, Any] = {"num_cpus": workers.cpus_per_worker, "num_gpus": 1 if workers.use_gpu else 0}
        remote = ray.remote(calibrate).options(**options, max_retries=3)
        [model] = results([remote.remote([ray.put(network)], workers)])
        for split in splits:
            samples = splits_of_run[split]
            images = NodeImages.of(job.data, samples)
            work = Work(model, network.weights, preprocess, samples, job.evaluation.batch_size, images)
            probabilities = OperatingPoint(1.0).probabilities(split_logits(work, workers))
            answers.append(Answers.of(samples.sample_ids, samples.labels, probabilities))
    return answers
