"""What runs on each worker: the composition of data, model and training for one rank."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import ray
import ray.train
import torch
from numpy.typing import NDArray

from cluster.lease import Lease, read_history, take
from cluster.processes import ProcessIdentity
from cluster.resources import WorkerPlan
from cluster.storage import Store
from data_pipeline.build import evaluation_source, training_source
from data_pipeline.randomness import Purpose, draw
from data_pipeline.samples import Samples
from ray_jobs.config import JobConfig
from ray_jobs.first_weights import FirstWeights
from ray_jobs.prepared_data import decoder
from ray_jobs.process_group import process_group
from ray_jobs.recorder import RunRecorder, SilentRecorder
from ray_jobs.run_directory import RunDirectory
from resnet_dist import checkpoint as checkpoints
from resnet_dist.checkpoint import Checkpoint
from resnet_dist.errors import RunError
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.trunk import split
from resnet_dist.run_records import cut_back
from resnet_dist.training.batch_norm import RunningStatistics
from resnet_dist.training.ema import Ema
from resnet_dist.training.fit import fit
from resnet_dist.training.group import Group
from resnet_dist.training.optimizer import build_optimizer
from resnet_dist.training.reduction import build_reduction
from resnet_dist.training.schedules import learning_rate
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import Recipe

_PURPOSES = {"dropout": Purpose.DROPOUT, "mixing": Purpose.MIXING}


@dataclass(frozen=True)
class WorkerTask:
    """All that a worker is told; the same for every rank."""

    job: JobConfig
    """Resolved: nothing that depends on the machine is unset."""
    run_uri: str
    train: Samples
    val: Samples
    plan: WorkerPlan
    submission: str
    driver: ProcessIdentity
    first: "ray.ObjectRef[FirstWeights] | None"
    """What a run without a checkpoint starts from; None where it had one."""


def train_worker(config: dict[str, WorkerTask]) -> None:
    """Entry point under Ray Train: asks rank and device once, then trains."""
    context = ray.train.get_context()
    task = config["task"]
    device = _device(task.plan)
    group = Group(context.get_world_rank(), context.get_world_size())
    torch.set_num_threads(task.plan.threads)
    run = RunDirectory(Store.open(task.run_uri))
    with process_group(task.plan.use_gpu):
        if group.rank > 0:
            _train(task, run, group, device, lease=None)
            return
        ttl_s = task.job.cluster.lease_ttl_s
        with take(run.store, submission=task.submission, driver=task.driver, ttl_s=ttl_s) as lease:
            _train(task, run, group, device, lease)


def _train(task: WorkerTask, run: RunDirectory, group: Group, device: torch.device, lease: Lease | None) -> None:
    job, messages = task.job, list[str]()
    found = _agreed_checkpoint(run, group, device, messages.append)

    # Precedence of weights: a checkpoint of this run, else the first ones.
    model = build_model(job.model.arch, len(task.train.classes), job.model.dropout, job.seed)
    if found is not None:
        model.load_state_dict(found.weights())
    elif task.first is not None:
        first = ray.get(task.first)
        model.load_state_dict(first.weights)
        messages += first.messages
    else:
        raise RunError(f"{task.run_uri} had a whole checkpoint at the start and has none now; start again")
    state = _train_state(job, model, device)
    if found is not None:
        _resume(state, found, run, lease)
        messages.append(f"resuming at step {state.step} (epoch {state.epoch + 1}) from {found.name}")

    decode, decode_threads = decoder(job), job.data.decode_threads or task.plan.threads
    training = training_source(
        job.data,
        job.augmentation,
        job.seed,
        task.train,
        job.training.global_batch_size,
        job.training.microbatch_size,
        group.rank,
        group.world_size,
        device,
        decode_threads,
        decode,
    )
    validation = evaluation_source(
        job.data,
        task.val,
        job.evaluation.batch_size,
        group.rank,
        group.world_size,
        device,
        decode_threads,
        decode,
    )
    recipe = _recipe(job, state, group, device)
    schedule_epochs = job.schedule.epochs or job.training.epochs

    def rate(step: int) -> float:
        return learning_rate(job.schedule, job.optimizer.learning_rate, step, training.steps_per_epoch, schedule_epochs)

    recorder = (
        SilentRecorder()
        if lease is None
        else RunRecorder(job, run, lease, training.steps_per_epoch, rate, found, task.submission, messages)
    )
    with training, validation, recorder:
        fit(state, recipe, training, validation, job.training.epochs, rate, recorder)


def _device(plan: WorkerPlan) -> torch.device:
    if not plan.use_gpu:
        return torch.device("cpu")
    # A resumed run must repeat the undisturbed one to the bit, and autotuning may choose another kernel each time.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda", torch.cuda.current_device())


def _agreed_checkpoint(
    run: RunDirectory, group: Group, device: torch.device, log: Callable[[str], None]
) -> Checkpoint | None:
    """The newest checkpoint that rank zero finds whole, on every rank; None where there is none."""
    believed = read_history(run.store)
    found = checkpoints.latest_verified(run.store, believed, log) if group.rank == 0 else None
    step = group.from_rank_zero(-1 if found is None else found.step, device)
    if step < 0 or group.rank == 0:
        return found
    return checkpoints.load(run.store, step, believed)


def _train_state(job: JobConfig, model: ResNetClassifier, device: torch.device) -> TrainState:
    model.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    trunk, suffix = split(model, job.freezing.freeze_depth)
    suffix.train()
    ema = None if job.training.ema_decay is None else Ema(suffix, job.training.ema_decay)
    return TrainState(model, trunk, suffix, build_optimizer(suffix, job.optimizer), ema)


def _recipe(job: JobConfig, state: TrainState, group: Group, device: torch.device) -> Recipe:
    seed = job.seed

    def keyed_draw(
        purpose: Literal["dropout", "mixing"], epoch: int, keys: NDArray[np.uint64], count: int
    ) -> NDArray[np.uint64]:
        return draw(seed, _PURPOSES[purpose], epoch, keys, count)

    idle = torch.zeros((2, 3, job.data.image_size, job.data.image_size), device=device)
    idle = idle.to(memory_format=torch.channels_last)
    return Recipe(
        group=group,
        reduction=build_reduction(job.training.reduction or "exact", state.suffix, group, state.features(idle)),
        statistics=RunningStatistics(state.suffix),
        draw=keyed_draw,
        dropout=job.model.dropout,
        label_smoothing=job.training.label_smoothing,
        mixup_alpha=job.training.mixup_alpha,
        clip_norm=job.optimizer.clip_norm,
        autocast=job.training.precision == "bf16",
    )


def _resume(state: TrainState, found: Checkpoint, run: RunDirectory, lease: Lease | None) -> None:
    progress = found.progress
    state.restore(found.training_state())
    state.step, state.epoch, state.step_in_epoch = progress.step, progress.epoch, progress.step_in_epoch
    state.validation_owed = progress.validation_owed
    if lease is not None:
        cut_back(run.store, lease.history, progress.step)
