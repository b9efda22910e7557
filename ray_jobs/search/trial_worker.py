"""What runs on each worker of a slot: it serves one trial after the other with the code of any training."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import ray
import ray.train
import torch

from cluster.session.resources import WorkerPlan
from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from data_pipeline.listing.samples import Samples
from ray_jobs.data.node_images import NodeImages, on_this_node
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lifecycle import outcome_of, write_end
from ray_jobs.search.actors import DispatcherClient
from ray_jobs.search.dispatcher import Dispatcher, TrialEvent, TrialOrder
from ray_jobs.search.latency import latency_ms, parameter_count, table_ms
from ray_jobs.search.records import TRIALS, Epoch
from ray_jobs.training.feature_sharing import FeatureSharing
from ray_jobs.training.initial_weights import InitialWeights
from ray_jobs.training.last_checkpoint import EndedOnRequestError
from ray_jobs.training.process_group import process_group
from ray_jobs.training.rank import WorkerTask, train_rank
from ray_jobs.training.teacher_network import TeacherNetwork
from ray_jobs.training.worker import device_of
from resnet_dist.checkpoint.progress import Progress
from resnet_dist.errors import DivergedError
from resnet_dist.model.structure import Structure
from resnet_dist.run_records import Record, Status, is_before
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.state import TrainState

_LOGGER = logging.getLogger(__name__)

WeightsKey = tuple[Structure, str]
"""What initial weights depend on: the network's structure and model.weights."""


@dataclass(frozen=True)
class Slot:
    """What a slot's workers get once: the same for every slot, rank and trial."""

    dispatcher: DispatcherClient
    search_uri: str
    train: Samples
    val: Samples
    plan: WorkerPlan
    dataset: Mapping[str, Any]
    split_csv: str
    initial_weights: "Mapping[WeightsKey, ray.ObjectRef[InitialWeights]]"
    objectives: tuple[str, ...]
    submission: str
    driver: ProcessIdentity
    teacher: "ray.ObjectRef[TeacherNetwork] | None" = None
    """What all trials learn from besides labels; None: nothing."""
    last_checkpoint: str | None = None
    """The key under which the driver asks for a last checkpoint; None: it never does."""
    sharing: FeatureSharing | None = None
    """Where features of frozen stages are shared."""
    images: NodeImages | None = None
    """How each node gets its copy of the images; None where all nodes see the samples' folder."""


@dataclass
class _EpochBarrier:
    """The end of each epoch: rank zero asks the search whether the trial goes on, and tells all ranks."""

    order: TrialOrder
    slot: Slot
    group: RankGroup
    device: torch.device
    goes_on: bool = True
    results: dict[str, float] = field(default_factory=dict[str, float])

    def __call__(self, state: TrainState, metrics: dict[str, float]) -> bool:
        stops = state.stopping is not None and state.stopping.should_stop
        is_last = stops or state.epoch >= self.order.job.training.epochs
        answer = 1
        if self.group.rank == 0:
            epoch: Epoch = {"epoch": state.epoch, **metrics, "stops_early": float(stops)}
            answer = int(self.slot.dispatcher.call(Dispatcher.epoch_done, self.order.digest, epoch, is_last=is_last))
        self.goes_on = self.group.from_rank_zero(answer, self.device) == 1
        return self.goes_on


def serve_trials(reference: "ray.ObjectRef[Slot]", number: int, worker_group: int) -> None:
    """Under Ray Train, on every rank of a slot's worker group: serves until the dispatcher has no more.

    An error that only some ranks raise ends the worker group; its slot then starts another one.
    """
    context = ray.train.get_context()
    slot = ray.get(reference)
    device, group = device_of(slot.plan), RankGroup(context.get_world_rank(), context.get_world_size())
    torch.set_num_threads(slot.plan.threads)
    turn = 0
    with on_this_node(slot.images, slot.train, slot.val) as (train, val), process_group(slot.plan.use_gpu):
        slot = replace(slot, train=train, val=val)
        while (order := slot.dispatcher.call(Dispatcher.take, number, worker_group, turn)) is not None:
            turn += 1
            event = _serve(order, slot, group, device)
            if group.rank == 0:
                slot.dispatcher.call(Dispatcher.ended, order.digest, event)


def key_of(job: JobConfig) -> WeightsKey:
    """Which initial weights a job starts from."""
    return job.model.structure, job.model.weights


def _serve(order: TrialOrder, slot: Slot, group: RankGroup, device: torch.device) -> TrialEvent:
    outage_s = order.job.storage.outage_s
    search = RunDirectory(Store.open(slot.search_uri)).waiting(outage_s)
    run = RunDirectory(search.store.child(f"{TRIALS}/{order.digest}"))
    task = WorkerTask(
        job=order.job,
        run_uri=run.uri,
        train=slot.train,
        val=slot.val,
        plan=slot.plan,
        submission=slot.submission,
        driver=slot.driver,
        initial_weights=slot.initial_weights[key_of(order.job)],
        teacher=slot.teacher,
        most_per_microbatch=order.most_per_microbatch,
        last_checkpoint=slot.last_checkpoint,
        sharing=slot.sharing,
    )
    barrier = _EpochBarrier(order, slot, group, device)
    try:
        if group.rank > 0:
            train_rank(task, run, group, device, None, barrier)
            return TrialEvent("finished")
        _begin(order, slot, run)
        ttl_s = order.job.cluster.lease_ttl_s
        with take(run.store, submission=slot.submission, driver=slot.driver, ttl_s=ttl_s) as lease:
            held = run.waiting(outage_s, confirm=lease.confirm)
            counts = train_rank(task, held, group, device, lease, barrier)
            barrier.results = (
                {} if counts is None else {f"reuse/{name}": value for name, value in asdict(counts).items()}
            )
    except DivergedError as error:  # every rank has counted the same steps
        if group.rank == 0:
            write_end(run, slot.submission, error)
        return TrialEvent("diverged", error=str(error))
    except EndedOnRequestError:  # only rank zero, so the worker group ends with it
        _say_stopped(run, "ended by the search (interrupt)")
        raise
    return _end(order, slot, run, device, barrier)


def _begin(order: TrialOrder, slot: Slot, run: RunDirectory) -> None:
    run.write_records(order.job, dict(slot.dataset), slot.split_csv)
    damaged: list[str] = []
    records = run.metrics(damaged.append)
    if damaged:
        # Trials are judged by their epochs: what these were is found by training them again. Training then sets the
        # damaged parts aside.
        _LOGGER.warning("%s; the trial begins again", "; ".join(damaged))
        run.store.delete("checkpoints")
    newest = run.latest()
    run.write_status(Status(state="starting", submission=slot.submission, epochs=order.job.training.epochs))
    if newest is not None:
        epochs = _epochs_until(records, newest.progress)
        slot.dispatcher.call(Dispatcher.resumed, order.digest, epochs)


def _epochs_until(records: list[Record], progress: Progress) -> list[Epoch]:
    """The validated epochs that a run goes on from."""
    return [
        {name: value for name, value in record.items() if name == "epoch" or name.startswith("val/")}
        for record in records
        if "val/loss" in record and is_before(record, progress.step, validation_owed=progress.validation_owed)
    ]


def _end(order: TrialOrder, slot: Slot, run: RunDirectory, device: torch.device, barrier: _EpochBarrier) -> TrialEvent:
    if not barrier.goes_on:
        by = slot.dispatcher.call(Dispatcher.ended_by, order.digest)
        _say_stopped(run, "ended by the search" + (f" ({by})" if by else ""))
        return TrialEvent("stopped", results=barrier.results | _measured(order, slot, device))
    newest, ending = run.latest(), ""
    if newest is not None:
        outcome = outcome_of(run, newest.progress, order.job, slot.dataset)
        run.write_result(outcome.to_json())
        ending = outcome.ending
    write_end(run, slot.submission, None, ending)
    return TrialEvent("finished", results=barrier.results | _measured(order, slot, device))


def _say_stopped(run: RunDirectory, why: str) -> None:
    status = run.read_status()
    if status is not None:
        run.write_status(replace(status, state="stopped", message=why, eta_s=None))


def _measured(order: TrialOrder, slot: Slot, device: torch.device) -> dict[str, float]:
    """Measurements of a trial's network that training does not make."""
    classes = len(slot.train.classes)
    measures: dict[str, Callable[[], float]] = {
        "latency_ms": lambda: latency_ms(order.job, classes, device),
        "latency_onnx_ms": lambda: table_ms(order.job, classes, "onnx"),
        "latency_openvino_ms": lambda: table_ms(order.job, classes, "openvino"),
        "parameters": lambda: float(parameter_count(order.job, classes)),
    }
    return {name: measures[name]() for name in slot.objectives if name in measures}
