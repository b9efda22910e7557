"""How large the pods of a job are: derived from its config once, here, and stated when it is submitted."""

import math
from dataclasses import dataclass, replace

from cluster.config import ClusterConfig
from cluster.errors import SubmissionError
from cluster.gpu_resource import WHOLE_GPU

GPU_CPUS = 4
"""CPUs of a worker with a GPU: DALI decodes on the GPU, and its CPU threads only read and feed."""
CPU_CPUS = 2
"""CPUs of a worker without: the least with which training and decoding do not wait for each other."""
_HEAD_CPUS = 2
_HEAD_MIB = 6 * 1024
"""The driver scans images, keeps the index and the first weights; Ray's own processes take 1.5 GiB of it."""
_EXPORT_CPUS = 4
_EXPORT_MIB = 12 * 1024
"""A job that works in its driver alone: PyTorch, ONNX, OpenVINO and NNCF at a time."""
_PROCESS_MIB = {True: 4 * 1024, False: 2 * 1024}
"""A worker that has loaded torch and DALI; with a GPU, CUDA's libraries and pinned buffers, too."""
_BATCHES_IN_MEMORY = 16
"""Microbatches of float32 images that wait decoded, on their way or in use."""
_ACTIVATIONS_MIB = 200
"""Of ResNet-50 for one image of 224 x 224 trained on a CPU (benchmarks/memory.py measured 130); none with a GPU."""
_OBJECT_STORE_MIB = 1024
"""Ray's: it carries the first weights (ResNet-152: 230 MB) and the list of samples, never images."""
_NCCL_MIB = 1024
"""Shared memory that NCCL asks for in its documentation's containers (--shm-size=1g)."""


@dataclass(frozen=True)
class JobNeeds:
    """What decides how much memory a worker needs."""

    microbatch_size: int
    height: int
    width: int


@dataclass(frozen=True)
class PodSizes:
    """Pods of a job and what each of them requests, which is also its limit."""

    pods: int
    """Of workers; 0 for a job that works in its driver alone."""
    workers_per_pod: int
    gpus: int
    """Of each worker pod, in units of `gpu_resource`."""
    cpus: int
    """Of each worker pod."""
    memory_mib: int
    """Of each worker pod, its shared memory and the object store in it included."""
    shared_memory_mib: int
    """Size of the memory-backed volume for shared memory of each pod."""
    object_store_mib: int
    head_cpus: int
    head_memory_mib: int
    gpu_resource: str = WHOLE_GPU
    """The resource of Kubernetes that a worker's GPU is."""

    @property
    def cpus_per_worker(self) -> int:
        """CPUs, and so threads, of one worker."""
        return self.cpus // self.workers_per_pod

    def stated(self) -> str:
        """The sizes in a line."""
        head = f"head {self.head_cpus} CPUs, {self.head_memory_mib / 1024:g} GiB"
        if self.pods == 0:
            return f"{head}, no workers"
        unit = f"GPU{'s' * (self.gpus > 1)}" if self.gpu_resource == WHOLE_GPU else self.gpu_resource
        gpus = f"{self.gpus} {unit}, " if self.gpus else ""
        return (
            f"{self.pods} pod{'s' * (self.pods > 1)} of {self.workers_per_pod} "
            f"worker{'s' * (self.workers_per_pod > 1)}: {gpus}{self.cpus} CPUs, {self.memory_mib / 1024:g} GiB "
            f"(shared memory {self.shared_memory_mib / 1024:g} GiB of it); {head}"
        )


def pod_sizes(cluster: ClusterConfig, needs: JobNeeds, *, use_gpu: bool) -> PodSizes:
    """The pods of a job whose workers train or judge. Raises SubmissionError when workers do not fill their pods."""
    workers, per_pod = cluster.num_workers, cluster.workers_per_node
    if workers % per_pod:
        raise SubmissionError(
            f"cluster.num_workers={workers} is no multiple of cluster.workers_per_node={per_pod}, so a pod's "
            f"{'GPUs' if use_gpu else 'CPUs'} would idle; use {workers - workers % per_pod or per_pod} workers or "
            "another number per node"
        )
    per_worker = cluster.cpus_per_worker or (GPU_CPUS if use_gpu else CPU_CPUS)
    shared = _shared_mib(per_pod, use_gpu=use_gpu)
    memory = per_pod * _worker_mib(cluster, needs, use_gpu=use_gpu) + shared
    return PodSizes(
        pods=workers // per_pod,
        workers_per_pod=per_pod,
        gpus=per_pod if use_gpu else 0,
        cpus=per_pod * per_worker,
        memory_mib=memory,
        shared_memory_mib=shared,
        object_store_mib=_OBJECT_STORE_MIB,
        head_cpus=_HEAD_CPUS,
        head_memory_mib=_HEAD_MIB,
        gpu_resource=cluster.gpu_resource,
    )


def driver_only_sizes() -> PodSizes:
    """The one pod of a job that works in its driver, such as an export."""
    return PodSizes(
        pods=0,
        workers_per_pod=1,
        gpus=0,
        cpus=0,
        memory_mib=0,
        shared_memory_mib=_shared_mib(1, use_gpu=False),
        object_store_mib=_OBJECT_STORE_MIB,
        head_cpus=_EXPORT_CPUS,
        head_memory_mib=_EXPORT_MIB,
    )


def with_export(sizes: PodSizes) -> PodSizes:
    """The same pods, with a head in which an export has room too."""
    alone = driver_only_sizes()
    return replace(
        sizes,
        head_cpus=max(sizes.head_cpus, alone.head_cpus),
        head_memory_mib=max(sizes.head_memory_mib, alone.head_memory_mib),
    )


def _worker_mib(cluster: ClusterConfig, needs: JobNeeds, *, use_gpu: bool) -> int:
    if cluster.memory_per_worker_gib is not None:
        return math.ceil(cluster.memory_per_worker_gib * 1024)
    image_mib = needs.height * needs.width * 3 * 4 / 2**20
    images = needs.microbatch_size * image_mib * _BATCHES_IN_MEMORY
    area = needs.height * needs.width / 224**2
    activations = 0.0 if use_gpu else needs.microbatch_size * _ACTIVATIONS_MIB * area
    return 512 * math.ceil((_PROCESS_MIB[use_gpu] + images + activations) / 512)


def _shared_mib(workers: int, *, use_gpu: bool) -> int:
    return _OBJECT_STORE_MIB + (_NCCL_MIB if use_gpu and workers > 1 else 0) + 256
