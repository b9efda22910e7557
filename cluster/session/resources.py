"""How many workers fit, and what each worker gets."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from cluster.config import ClusterConfig
from cluster.errors import ResourceError

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of a job; the same for every attempt, so that resumed runs compute with equal threads."""

    num_workers: int
    use_gpu: bool
    cpus_per_worker: int
    gpus_per_worker: float = 1.0
    """Share of a GPU, where there are GPUs."""

    @property
    def threads(self) -> int:
        """Threads of torch's operators and of DALI in each worker."""
        return self.cpus_per_worker

    @property
    def resources_per_worker(self) -> dict[str, float]:
        """What each worker reserves: CPUs also beside a GPU, since Ray otherwise leaves such a worker one thread."""
        return {"CPU": float(self.cpus_per_worker)} | ({"GPU": self.gpus_per_worker} if self.use_gpu else {})


def plan_workers(cluster: ClusterConfig, cpus: int, gpus: int) -> WorkerPlan:
    """Share `cpus` and `gpus` among the workers. Raises ResourceError if the workers do not fit; never waits."""
    workers = cluster.num_workers
    use_gpu = gpus > 0 if cluster.use_gpu is None else cluster.use_gpu
    if use_gpu and workers > gpus:
        raise ResourceError(
            f"cluster.num_workers={workers} with a GPU each, but there are {gpus}; use at most {gpus} workers or "
            "cluster.use_gpu=false"
            if gpus
            else f"cluster.use_gpu=true, but there is no GPU for {workers} workers; use cluster.use_gpu=false"
        )
    per_worker = cluster.cpus_per_worker or max(cpus // workers, 1)
    needed = workers * per_worker
    if needed > cpus:
        each = f" of {per_worker} CPUs (cluster.cpus_per_worker)" if cluster.cpus_per_worker else ""
        raise ResourceError(
            f"cluster.num_workers={workers}{each} need {needed} CPUs, but there are {cpus}; use fewer"
            + (
                f", or let the embedded Ray offer more logical CPUs than cores with cluster.local_cpus={needed}"
                if cluster.address is None
                else " or add nodes to the cluster"
            )
        )
    return WorkerPlan(workers, use_gpu, per_worker)


def local_resources(cluster: ClusterConfig) -> tuple[int, int]:
    """CPUs and GPUs of an embedded Ray on this machine, found without starting it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
    if visible is not None:
        gpus = min(gpus, len([device for device in visible.split(",") if device.strip() not in {"", "-1"}]))
    return cluster.local_cpus or _cores(), gpus


def _cores() -> int:
    """Cores that this process may use. A container's quota counts; the affinity does not show it."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = _CPU_QUOTA.read_text().split()
        return max(min(allowed, math.ceil(int(quota) / int(period))), 1)
    except (OSError, ValueError):  # no such file, or "max": no quota
        return allowed
