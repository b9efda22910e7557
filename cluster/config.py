"""Configuration of where a job runs and where it stores. Nothing here belongs to a run's identity."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class StorageConfig(BaseModel):
    """Where everything durable goes."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": False}
    )

    root: str = "outputs"
    """A folder or any pyarrow filesystem URI (/mnt/shared, s3://bucket/prefix, gs://bucket/prefix)."""


class ClusterConfig(BaseModel):
    """Ray, workers and what each of them gets."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, json_schema_extra={"identity": False}
    )

    address: str | None = None
    """A running Ray ("auto", ray://host:10001) or its Ray Jobs API (http://host:8265); unset: an embedded local Ray for
    the length of the command."""
    num_workers: Annotated[int, Field(ge=1, le=4096)] = 1
    """Training processes, one rank each."""
    use_gpu: bool | None = None
    """One GPU for each worker; unset: when there are GPUs."""
    cpus_per_worker: Annotated[int, Field(ge=1)] | None = None
    """CPUs, and so threads, of a worker; unset: the CPUs there are, shared evenly."""
    local_cpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Logical CPUs the embedded Ray offers; unset: the cores of this machine."""
    max_failures: Annotated[int, Field(ge=0)] = 3
    """Restarts of the worker group without a new checkpoint in between before the job fails."""
    wait_for_nodes_s: Annotated[float, Field(ge=0.0)] = 600.0
    """Seconds to wait, on a running Ray, until it has room for the workers: nodes start late, go, and are replaced."""
    workers_per_node: Annotated[int, Field(ge=1, le=64)] = 1
    """On Kubernetes: workers, and GPUs, of one pod. As many as a node has GPUs is fastest: they exchange gradients
    without the network."""
    memory_per_worker_gib: Annotated[float, Field(gt=0.0, le=4096.0)] | None = None
    """On Kubernetes: memory of each worker in GiB; unset: what the images, batches and network should need."""
    lease_ttl_s: Annotated[float, Field(gt=0.0)] = 30.0
    """Seconds without a heartbeat after which a run held by another process may be taken over."""
