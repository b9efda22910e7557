"""Where a job runs and where it stores its files. No field here belongs to a run's identity."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cluster.gpu_resource import WHOLE_GPU, checked_gpu_resource


class StorageConfig(BaseModel):
    """Where all lasting files go."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": False}
    )

    root: str = "outputs"
    """A folder or any pyarrow filesystem URI (/mnt/shared, s3://bucket/prefix, gs://bucket/prefix)."""
    outage_s: Annotated[float, Field(ge=0.0, le=86_400.0)] = 900.0
    """Seconds that storage may be away (not mounted, read-only, not reached) while a command works; training goes on
    meanwhile, and what is to be stored waits."""


class ClusterConfig(BaseModel):
    """Ray, its workers and their resources."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": False}
    )

    address: str | None = None
    """A running Ray ("auto", ray://host:10001) or its Ray Jobs API (http://host:8265); unset: an embedded local Ray for
    the length of the command."""
    num_workers: Annotated[int, Field(ge=1, le=4096)] = 1
    """Training processes, one rank each."""
    use_gpu: bool | None = None
    """One GPU for each worker; unset: if there are GPUs."""
    cpus_per_worker: Annotated[int, Field(ge=1)] | None = None
    """CPUs, and so threads, of a worker; unset: the CPUs there are, shared evenly."""
    local_cpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Logical CPUs the embedded Ray offers; unset: the cores of this machine."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Restarts of the worker group without a new checkpoint in between before the job fails."""
    max_restarts: Annotated[int, Field(ge=0, le=1000)] = 3
    """Times that a command starts its embedded Ray again after one of Ray's own processes has died; each time it waits
    longer before, from 1 s up to 30 s. The same death at the same step twice ends the job."""
    wait_for_nodes_s: Annotated[float, Field(ge=0.0)] = 600.0
    """Seconds to wait until a running Ray has room for the workers: nodes start late, go away and are replaced."""
    workers_per_node: Annotated[int, Field(ge=1, le=64)] = 1
    """On Kubernetes: workers of one pod, and so its GPUs. The number of GPUs of a node is fastest: the workers then
    exchange gradients without the network."""
    gpu_resource: Annotated[str, AfterValidator(checked_gpu_resource)] = WHOLE_GPU
    """On Kubernetes: the resource that is a worker's GPU: nvidia.com/gpu, or a part of one: nvidia.com/gpu.shared or
    nvidia.com/mig-PROFILE, such as nvidia.com/mig-1g.10gb. With a part, workers_per_node is 1."""
    memory_per_worker_gib: Annotated[float, Field(gt=0.0, le=4096.0)] | None = None
    """On Kubernetes: memory of each worker in GiB; unset: an estimate from images, batches and network."""
    lease_ttl_s: Annotated[float, Field(gt=0.0, le=3600.0)] = 30.0
    """Seconds without a heartbeat after which a run held by another process may be taken over."""

    @model_validator(mode="after")
    def _one_part_of_a_gpu_in_a_pod(self) -> Self:
        if self.gpu_resource != WHOLE_GPU and self.workers_per_node > 1 and self.use_gpu is not False:
            raise ValueError(
                f"cluster.workers_per_node={self.workers_per_node} does not go with cluster.gpu_resource="
                f"{self.gpu_resource}: a CUDA process sees one MIG device only, and NCCL refuses two workers of a pod "
                "on one GPU; use workers_per_node = 1, which gives each worker a pod of its own, or whole GPUs "
                f"({WHOLE_GPU})"
            )
        return self
