"""The function that each worker runs under Ray Train: it asks for rank and device once, then trains."""

from dataclasses import replace

import ray
import ray.train
import torch

from cluster.session.resources import WorkerPlan
from cluster.storage.lease import take
from cluster.storage.store import Store
from ray_jobs.data.node_images import on_this_node
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.process_group import process_group
from ray_jobs.training.rank import WorkerTask, train_rank
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.state import TrainState


def train(reference: "ray.ObjectRef[WorkerTask]") -> None:
    """Train this rank's share; Ray Train calls it on every rank."""
    context = ray.train.get_context()
    task = ray.get(reference)
    device = device_of(task.plan)
    group = RankGroup(context.get_world_rank(), context.get_world_size())
    torch.set_num_threads(task.plan.threads)
    outage_s = task.job.storage.outage_s
    run = RunDirectory(Store.open(task.run_uri)).waiting(outage_s)
    # Images first: a first copy may take longer than torch lets workers wait for each other.
    with on_this_node(task.images, task.train, task.val) as (train, val), process_group(task.plan.use_gpu):
        task = replace(task, train=train, val=val)
        if group.rank > 0:
            train_rank(task, run, group, device, None, _report)
            return
        ttl_s = task.job.cluster.lease_ttl_s
        with take(run.store, submission=task.submission, driver=task.driver, ttl_s=ttl_s) as lease:
            train_rank(task, run.waiting(outage_s, confirm=lease.confirm), group, device, lease, _report)


def device_of(plan: WorkerPlan) -> torch.device:
    """The one device of this worker."""
    if not plan.use_gpu:
        return torch.device("cpu")
    # A resumed run must repeat an uninterrupted one to the bit, and autotuning may choose another kernel each time.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda", torch.cuda.current_device())


def _report(state: TrainState, metrics: dict[str, float]) -> bool:
    """Plain numbers to Ray, once an epoch and never a checkpoint; a barrier over all ranks."""
    ray.train.report({"epoch": state.epoch, "step": state.step, **metrics})
    return True
