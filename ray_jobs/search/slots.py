"""Slots: how many trials fit at a time, and a supervisor for each that keeps a worker group alive."""

# Ray's tasks carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from typing import Any

from cluster.config import ClusterConfig
from cluster.errors import ResourceError
from cluster.session.nodes import NodeCapacity
from cluster.session.resources import WorkerPlan
from cluster.session.scratch import scratch_folder
from ray_jobs.errors import CERTAIN, first_line
from ray_jobs.search.actors import DispatcherClient
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.dispatcher import Dispatcher, TrialEvent
from ray_jobs.training.attempt import causes_of
from ray_jobs.training.worker_group import fit_worker_group
from resnet_dist.training.out_of_memory import MicrobatchTooLargeError


def serve_worker(config: dict[str, Any]) -> None:
    """A worker of a search's slot: `config` holds a reference to the Slot, and the numbers of slot and worker group.

    Ray's controller reads this function too: so only a worker loads what it runs.
    """
    from ray_jobs.search.trial_worker import serve_trials  # noqa: PLC0415

    serve_trials(config["slot"], config["number"], config["group"])


def plan_slots(cluster: ClusterConfig, search: SearchConfig, nodes: list[NodeCapacity]) -> tuple[WorkerPlan, int]:
    """What each worker of a trial gets, and how many trials fit at a time. Raises ResourceError where none fits."""
    workers = search.workers_per_trial or cluster.num_workers
    gpus = sum(node[1] for node in nodes)
    use_gpu = gpus > 0 if cluster.use_gpu is None else cluster.use_gpu
    share = search.gpus_per_worker
    if use_gpu and share < 1.0 and workers > 1:
        raise ResourceError(
            f"search.gpus_per_worker={share} with {workers} workers for each trial: workers of one trial cannot share "
            "a GPU (NCCL refuses it); use search.workers_per_trial=1, or whole GPUs"
        )
    if use_gpu and not gpus:
        raise ResourceError("cluster.use_gpu=true, and there is no GPU; use cluster.use_gpu=false")
    per_gpu = int(1.0 / share + 1e-9)  # a worker's share lies on one GPU
    places = [int(node[1]) * per_gpu if use_gpu else node[0] for node in nodes]
    shared = [node[0] // place for node, place in zip(nodes, places, strict=True) if place] if use_gpu else []
    each = cluster.cpus_per_worker or max(min(shared, default=1), 1)
    fits = sum(min(node[0] // each, place) for node, place in zip(nodes, places, strict=True))
    if fits < workers:
        one = f"{each} CPUs" + (f" and {share:g} GPU" if use_gpu else "")
        raise ResourceError(
            f"a trial of {workers} workers with {one} each never fits: there is room for {fits} such workers; use "
            "fewer (search.workers_per_trial, cluster.num_workers), smaller ones (cluster.cpus_per_worker), "
            + (
                f"or let the embedded Ray offer more logical CPUs than cores (cluster.local_cpus={workers * each})"
                if cluster.address is None
                else "or add nodes to the cluster"
            )
        )
    slots = min(fits // workers, search.max_concurrent_trials or fits, search.trials)
    return WorkerPlan(workers, use_gpu, each, share), max(slots, 1)


def keep_serving(slot: list[Any], plan: WorkerPlan, dispatcher: DispatcherClient, number: int) -> str:
    """Start the slot's worker groups, one after the other, until one ends because the dispatcher is closed.

    `slot` holds a reference to the workers' Slot, `number` says which one it is. Returns why the slot is given up, ""
    if it is not.
    """
    while True:
        group = dispatcher.call(Dispatcher.open_slot, number)
        config = {"slot": slot[0], "number": number, "group": group}
        try:
            with scratch_folder("rd-slot-") as scratch:
                failure = fit_worker_group(serve_worker, config, plan, str(scratch))
        except OSError as error:  # such as a full disk: the trial must be told
            failure = error
        if failure is None:
            return ""
        event = _event_of(failure)
        if not dispatcher.call(Dispatcher.lost, number, group, event):
            return event.error


def _event_of(failure: Exception) -> TrialEvent:
    causes = causes_of(failure)
    too_large = next((cause for cause in causes if isinstance(cause, MicrobatchTooLargeError)), None)
    if too_large is not None:
        return TrialEvent("too_large", error=str(too_large), results={"microbatch": too_large.microbatch_size})
    certain = next((cause for cause in causes if isinstance(cause, CERTAIN)), None)
    if certain is not None:
        return TrialEvent("failed", error=str(certain))
    return TrialEvent("lost", error=first_line(causes[0]))
