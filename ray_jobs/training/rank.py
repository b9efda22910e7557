"""One rank's training: data, model and loop composed, whoever gave the task."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import ray
import torch

from cluster.session.resources import WorkerPlan
from cluster.storage.lease import Lease
from cluster.storage.process_identity import ProcessIdentity
from data_pipeline.listing.samples import Samples
from data_pipeline.sources.batching import EvaluationImages, TrainingImages
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.views.randomness import SeededDraw
from ray_jobs.data.calibration_images import calibration_batches
from ray_jobs.data.node_images import NodeImages
from ray_jobs.data.prepare import decoder
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.feature_sharing import FeatureSharing
from ray_jobs.training.initial_weights import InitialWeights
from ray_jobs.training.recorder import RunRecorder, RunStart
from ray_jobs.training.restart_policy import NoWholeCheckpointError
from ray_jobs.training.silent_recorder import EpochBarrier, SilentRecorder
from ray_jobs.training.teacher_network import TeacherNetwork
from resnet_dist.checkpoint.contents import Checkpoint
from resnet_dist.checkpoint.progress import Microbatches
from resnet_dist.compression.distillation.student_loss import Distillation
from resnet_dist.features.answers import SharedAnswers
from resnet_dist.features.reuse import Counts, FeatureReuse
from resnet_dist.model.model_json import ranges_in
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.quantisation.network import quantise
from resnet_dist.quantisation.range_setting import RangeSetting
from resnet_dist.training.fit import fit
from resnet_dist.training.out_of_memory import MicrobatchTooLargeError, is_out_of_memory
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.setup import Setup
from resnet_dist.training.state import TrainState


@dataclass(frozen=True)
class WorkerTask:
    """What the driver gives each worker; the same for every rank."""

    job: JobConfig
    """Resolved: nothing that depends on the machine is unset."""
    run_uri: str
    train: Samples
    val: Samples
    plan: WorkerPlan
    submission: str
    driver: ProcessIdentity
    initial_weights: "ray.ObjectRef[InitialWeights] | None"
    """What a run without a checkpoint starts from; None where it had one."""
    teacher: "ray.ObjectRef[TeacherNetwork] | None" = None
    """What the run learns from besides labels, however far it is; None: nothing."""
    most_per_microbatch: int | None = None
    """A microbatch size that the memory of an earlier attempt has shown to be the most."""
    sharing: FeatureSharing | None = None
    """Where features of frozen stages are shared with other trainings; None: nowhere."""
    last_checkpoint: str | None = None
    """The key of the driver's LastCheckpoint; None: it never asks for one."""
    images: NodeImages | None = None
    """How each node comes to its copy of the images; None where all see the samples' folder."""
    warnings: tuple[str, ...] = ()
    """Lines of the log that the driver has said already."""


def train_rank(
    task: WorkerTask,
    run: RunDirectory,
    group: RankGroup,
    device: torch.device,
    lease: Lease | None,
    epoch_barrier: EpochBarrier,
) -> Counts | None:
    """Train the run from where it stands to its end, or until `epoch_barrier` ends it after an epoch.

    Collective: every rank calls it alike, rank zero with the run's lease, the others without one. Raises
    MicrobatchTooLargeError where memory runs out in the middle, and what ends any training. What was shared
    comes back, None where nothing is shared.
    """
    job, messages = task.job, list[str]()
    checkpoint = _agreed_checkpoint(run, group, device, messages.append)
    model = _starting_model(task, checkpoint, messages)
    messages += task.warnings
    model.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    setup = _setup(task, model, group, device)
    if job.model.quantisation is not None:
        setup.ranges = RangeSetting(partial(calibration_batches, job, task.train), job.training.epochs)
    if setup.distillation is not None:
        messages.append(f"teacher: {job.distillation.teacher} ({job.distillation.teacher_digest})")
    microbatches = _microbatches(task, setup, checkpoint, messages)
    state = setup.state_at(0) if checkpoint is None else _resumed(setup, checkpoint, messages)
    kept = _reuse(task, setup, microbatches.size, messages)
    share = RankShare(group.rank, group.world_size, device)
    training, validation = _sources(task, microbatches.size, share, kept)
    recorder = SilentRecorder(epoch_barrier)
    if lease is not None:
        steps, classes = training.steps_per_epoch, _classes(task)
        key = task.last_checkpoint
        start = RunStart(job, run, lease, task.submission, checkpoint, microbatches, steps, classes, key)
        recorder = RunRecorder(start, messages, epoch_barrier)
    with training, validation, nullcontext() if kept is None else closing(kept), recorder:
        try:
            fit(state, setup, training, validation, job.training.epochs, job.training.max_skipped_steps, recorder)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise MicrobatchTooLargeError(microbatches.size) from error
            raise
    return None if kept is None else kept.counts


def _starting_model(task: WorkerTask, checkpoint: Checkpoint | None, messages: list[str]) -> ResNetClassifier:
    """The network with the weights that this training starts from, by this precedence:

    1. those of a checkpoint of this run;
    2. the initial ones, where it has no checkpoint.
    """
    job = task.job
    model = build_model(job.model.structure, len(task.train.classes), job.model.dropout, job.seed)
    if checkpoint is not None:
        model.load_state_dict(checkpoint.weights())
    elif task.initial_weights is not None:
        initial = ray.get(task.initial_weights)
        model.load_state_dict(initial.weights)
        messages += initial.messages
    else:
        raise NoWholeCheckpointError("\n".join([f"{task.run_uri} has no whole checkpoint", *messages]))
    if job.model.quantisation is not None:
        quantise(model, None if checkpoint is None else ranges_in(checkpoint.model_json()))
    return model


def _sources(
    task: WorkerTask, microbatch_size: int, share: RankShare, kept: FeatureReuse | SharedAnswers | None
) -> tuple[TrainingImages, EvaluationImages]:
    job = task.job
    threads = job.data.decode_threads or task.plan.threads
    spec = SourceSpec(job.data, decoder(job), job.augmentation, job.seed, threads)
    cached = (None, None) if kept is None else (kept.cached_microbatch, kept.cached_batch)
    return (
        training_source(spec, task.train, job.training.global_batch_size, microbatch_size, share, cached[0]),
        evaluation_source(spec, task.val, job.evaluation.batch_size, share, cached[1]),
    )


def _reuse(
    task: WorkerTask, setup: Setup, microbatch_size: int, messages: list[str]
) -> FeatureReuse | SharedAnswers | None:
    """What `setup` from now on shares with other trainings, as sources ask for it; None: nothing."""
    if task.sharing is None:
        return None
    threads, device = task.plan.threads, setup.device
    reuse = task.sharing.open(task.job, task.train, task.val, microbatch_size, device, threads, messages.append)
    setup.reuse = reuse
    if reuse is None or setup.distillation is None:
        return reuse
    shared = SharedAnswers(reuse.beside("answers of the teacher"), reuse)
    setup.distillation = replace(setup.distillation, shared=shared)
    return shared


def _classes(task: WorkerTask) -> list[tuple[str, int, int]]:
    """Name, training and validation images of each class."""
    names = task.train.classes
    train, val = (np.bincount(samples.labels, minlength=len(names)).tolist() for samples in (task.train, task.val))
    return list(zip(names, train, val, strict=True))


def _agreed_checkpoint(
    run: RunDirectory, group: RankGroup, device: torch.device, log: Callable[[str], None]
) -> Checkpoint | None:
    """The newest checkpoint that rank zero finds whole, on every rank; None where there is none."""
    found = run.latest(log) if group.rank == 0 else None
    step = group.from_rank_zero(-1 if found is None else found.step, device)
    if step < 0 or group.rank == 0:
        return found
    return run.checkpoint(step)


def _setup(task: WorkerTask, model: ResNetClassifier, group: RankGroup, device: torch.device) -> Setup:
    job = task.job

    return Setup(
        model=model,
        config=job.model,
        freezing=job.freezing,
        optimizer=job.optimizer,
        schedule=job.schedule,
        schedule_epochs=job.schedule.epochs or job.training.epochs,
        training=job.training,
        class_counts=np.bincount(task.train.labels, minlength=len(task.train.classes)),
        input_size=job.data.input_size,
        draw=SeededDraw(job.seed),
        group=group,
        device=device,
        distillation=None if task.teacher is None else _distillation(task, ray.get(task.teacher), device),
    )


def _distillation(task: WorkerTask, network: TeacherNetwork, device: torch.device) -> Distillation:
    config = task.job.distillation
    teacher = network.teacher(with_maps=config.features > 0.0)
    teacher.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return Distillation(config, teacher, task.job.data.input_size)


def _microbatches(task: WorkerTask, setup: Setup, checkpoint: Checkpoint | None, messages: list[str]) -> Microbatches:
    """The size that the run has come to, at most what the driver allows, halved until it fits. Collective."""
    if checkpoint is None:
        before, epoch, step = Microbatches(task.job.training.microbatch_size, 0), 0, 0
    else:
        progress = checkpoint.progress
        before, epoch, step = progress.microbatches, progress.epoch, progress.step
    size = setup.fitting_microbatch(epoch, min(before.size, task.most_per_microbatch or before.size))
    if size == before.size:
        return before
    messages.append(f"out of memory: going on with microbatches of {size} instead of {before.size} from step {step} on")
    return Microbatches(size, step)


def _resumed(setup: Setup, checkpoint: Checkpoint, messages: list[str]) -> TrainState:
    """The state that a checkpoint was made of."""
    progress = checkpoint.progress
    state = setup.state_at(progress.epoch, progress.plateau, progress.early_stopping)
    state.restore(checkpoint.training_state())
    state.step, state.epoch, state.step_in_epoch = progress.step, progress.epoch, progress.step_in_epoch
    state.validation_owed = progress.validation_owed
    messages.append(f"resuming at step {state.step} (epoch {state.epoch + 1}) from {checkpoint.name}")
    return state
