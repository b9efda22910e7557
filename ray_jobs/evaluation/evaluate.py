"""`resnet-dist evaluate`: judges a run's checkpoint on a split, through Pillow and the unfolded network."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from numpy.typing import NDArray

from cluster.session.resources import WorkerPlan, local_resources, plan_workers
from cluster.session.results import results
from cluster.session.session import cluster_resources, ray_session
from data_pipeline.listing.samples import Samples
from data_pipeline.sources.batches import ImageBatch
from data_pipeline.splits.assign import read_split_csv
from ray_jobs.data.evaluation_set import EvaluationSet, evaluation_set_of_folder, evaluation_set_of_run, read_sample
from ray_jobs.data.node_images import NodeImages, on_this_node
from ray_jobs.data.prepare import index_data
from ray_jobs.evaluation.worker import answer
from ray_jobs.inspection.leakage import leaked_samples
from ray_jobs.inspection.record import InspectionRecord, find_inspection
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml_codec import Tree
from ray_jobs.run.argument import root_and_name
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lookup import find_run, job_of_run, which_checkpoint
from ray_jobs.terminal.watcher import note
from resnet_dist.evaluation.judge import Answers, EvaluationResult, assemble, predict, report
from resnet_dist.evaluation.without_leaks import WithoutLeaks, without_leaks
from resnet_dist.model.model_json import restored
from resnet_dist.runtime.operating_point import OperatingPoint
from resnet_dist.runtime.preprocess import Preprocess
from resnet_dist.torch_threads import torch_threads


@dataclass(frozen=True)
class EvaluationOutcome:
    """A judged split."""

    run: str
    """URI of the run."""
    split: str
    checkpoint: str
    """Name of the checkpoint that was judged."""
    result: EvaluationResult
    notes: tuple[str, ...]
    """For people: how the images were chosen."""
    predictions: str
    """URI of the Parquet file with each image's label, prediction and probabilities."""
    without_leaks: WithoutLeaks | None = None
    """The same without the images that have copies in what was trained on; None where there are none, or none are
    known: see `resnet-dist data inspect`."""


def run_evaluate(run: str, split: str | None, checkpoint: str, overrides: Tree) -> EvaluationOutcome:
    """Judge `checkpoint` (best, last or a step) of a run on a split (test where there is one, else val).

    `overrides` change where it runs and, with data.root, which folder is judged; everything else is the run's own.
    Another folder that has only class folders is judged whole. Writes evaluation/<split>.json, or
    <folder>.<split>.json for another folder, and the predictions to the run. Raises RunError or DataError where the
    run, its checkpoint or the images are missing.
    """
    directory = find_run(run, overrides)
    job = job_of_run(directory, overrides)
    directory = directory.waiting(job.storage.outage_s, note)
    if job.cluster.address is None:
        plan_workers(job.cluster, *local_resources(job.cluster))
    found = directory.checkpoint(which_checkpoint(checkpoint), job.checkpoint.monitor)
    judged = _judged(directory, job, split, not {"root", "labels"}.isdisjoint(overrides.get("data", {})))
    samples = judged.samples
    record = _inspection(directory, job, judged)
    work = Work(
        model=found.model_json(),
        weights=found.weights(),
        # A limit on image size does not change how an image is seen, so this command may set its own.
        preprocess=replace(directory.read_preprocess(), max_pixels=job.data.max_pixels),
        samples=samples,
        batch_size=job.evaluation.batch_size,
        images=NodeImages.of(job.data, samples),
    )
    with ray_session(job.cluster):
        logits = split_logits(work, plan_workers(job.cluster, *cluster_resources()))
    result = report(logits, samples.labels, samples.classes, job.seed, job.evaluation.bootstrap_samples)
    about = {"run": directory.uri, "split": judged.split, "checkpoint": found.name, "data": job.data.root}
    leaks = _leaks(directory, job, judged, record, logits)
    leakage = {"inspected": record is not None, "without_leaks": leaks.to_json() if leaks else None}
    content = {**about, "notes": list(judged.notes), **leakage, **result.to_json()}
    predictions = directory.write_evaluation(judged.record, content, _predictions(samples, logits))
    return EvaluationOutcome(directory.uri, judged.split, found.name, result, judged.notes, predictions, leaks)


@dataclass(frozen=True)
class Work:
    """What each worker needs."""

    model: dict[str, Any]
    weights: dict[str, torch.Tensor]
    preprocess: Preprocess
    samples: Samples
    batch_size: int
    images: NodeImages | None
    """How each node gets its copy of the images."""


def split_logits(work: Work, plan: WorkerPlan) -> NDArray[np.float32]:
    """Logits [N, C] in the split's order, within a session of Ray."""
    remote = ray.remote(answer).options(num_cpus=plan.cpus_per_worker, num_gpus=1 if plan.use_gpu else 0, max_retries=3)
    shared = ray.put(work)
    parts = [remote.remote([shared], rank, plan) for rank in range(plan.num_workers)]
    return assemble(results(parts), len(work.samples))


def answer_batches(work: Work, rank: int, plan: WorkerPlan) -> Answers:
    """One worker's share: every num_workers-th of the split's fixed batches."""
    with torch_threads(plan.threads):
        return _answer_batches(work, rank, plan)


def _answer_batches(work: Work, rank: int, plan: WorkerPlan) -> Answers:
    device = torch.device("cuda" if plan.use_gpu else "cpu")
    model = restored(work.model, work.weights).to(device)

    def batches(samples: Samples) -> Iterator[ImageBatch]:
        with ThreadPoolExecutor(plan.threads) as pool:
            for first in range(rank * work.batch_size, len(samples), plan.num_workers * work.batch_size):
                rows = np.arange(first, min(first + work.batch_size, len(samples)), dtype=np.int64)
                images = np.stack(list(pool.map(partial(read_sample, work.preprocess, samples), rows.tolist())))
                normalised = torch.from_numpy(work.preprocess.normalise(images)).permute(0, 3, 1, 2)
                yield ImageBatch(rows, normalised, torch.from_numpy(samples.labels[rows]))

    with on_this_node(work.images, work.samples) as (samples,):
        return predict(model, batches(samples), device)


def _judged(directory: RunDirectory, job: JobConfig, split: str | None, is_named: bool) -> EvaluationSet:
    """`is_named`: whether the caller named data; a copy of the run's own data counts as the run's own."""
    stored = directory.read_dataset()
    dataset = index_data(job, may_lack_classes=True)
    if is_named and dataset.fingerprint != stored.fingerprint:
        return evaluation_set_of_folder(dataset, stored.classes, split)
    rows = read_split_csv(directory.read_split_csv())
    return evaluation_set_of_run(dataset, stored.classes, stored.fingerprint, rows, split)


def _inspection(directory: RunDirectory, job: JobConfig, judged: EvaluationSet) -> InspectionRecord | None:
    """That of the run's own data. Of another folder's images nobody knows whether they are copies."""
    if judged.record != judged.split:
        return None
    place = root_and_name(directory.uri)
    return find_inspection(place[0] if place else job.storage.root, directory.read_dataset().fingerprint)


def _leaks(
    directory: RunDirectory,
    job: JobConfig,
    judged: EvaluationSet,
    record: InspectionRecord | None,
    logits: NDArray[np.float32],
) -> WithoutLeaks | None:
    """None where no image has a copy in what was trained on, or nobody looked."""
    if record is None:
        return None
    split_of = {row.sample_id: row.split for row in read_split_csv(directory.read_split_csv())}
    samples = judged.samples
    leaked = leaked_samples(record, samples.sample_ids, split_of)
    predictions = logits.argmax(axis=1).astype(np.int64)
    resamples = job.evaluation.bootstrap_samples
    return without_leaks(samples.labels, predictions, leaked, len(samples.classes), job.seed, resamples)


def _predictions(samples: Samples, logits: NDArray[np.float32]) -> bytes:
    """Parquet: sample_id, label, prediction (class names) and probabilities, one row a sample."""
    probabilities = OperatingPoint(1.0).probabilities(logits).astype(np.float32)
    table: Any = pa.table(  # pyright: ignore[reportUnknownVariableType]
        {
            "sample_id": list(samples.sample_ids),
            "label": [samples.classes[label] for label in samples.labels],
            "prediction": [samples.classes[label] for label in logits.argmax(axis=1)],
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), probabilities.shape[1]),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)  # pyright: ignore[reportUnknownMemberType]
    return buffer.getvalue()
