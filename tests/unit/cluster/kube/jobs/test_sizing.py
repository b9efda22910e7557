"""Sizes of pods follow from the config, and nothing that fits them is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import ClusterConfig
from cluster.errors import SubmissionError
from cluster.kube.jobs.sizing import CPU_CPUS, GPU_CPUS, JobNeeds, driver_only_sizes, pod_sizes

NEEDS = JobNeeds(microbatch_size=32, height=224, width=224)


@given(st.integers(1, 64), st.integers(1, 16), st.booleans(), st.none() | st.integers(1, 32))
def test_pods_hold_all_workers_and_nothing_idles(pods: int, per_node: int, use_gpu: bool, cpus: int | None) -> None:
    cluster = ClusterConfig(num_workers=pods * per_node, workers_per_node=per_node, cpus_per_worker=cpus)
    sizes = pod_sizes(cluster, NEEDS, use_gpu=use_gpu)
    assert sizes.pods == pods
    assert sizes.gpus == (per_node if use_gpu else 0)
    assert sizes.cpus_per_worker == (cpus or (GPU_CPUS if use_gpu else CPU_CPUS))
    assert sizes.shared_memory_mib > sizes.object_store_mib
    assert sizes.memory_mib > sizes.shared_memory_mib


@given(st.integers(2, 256), st.integers(16, 1024), st.booleans())
def test_larger_batches_and_images_never_get_less_memory(batch: int, size: int, use_gpu: bool) -> None:
    def memory(needs: JobNeeds) -> int:
        return pod_sizes(ClusterConfig(), needs, use_gpu=use_gpu).memory_mib

    least = memory(JobNeeds(batch, size, size))
    assert memory(JobNeeds(batch * 2, size, size)) >= least
    assert memory(JobNeeds(batch, size * 2, size)) >= least


def test_memory_that_is_given_is_what_workers_get() -> None:
    sizes = pod_sizes(ClusterConfig(num_workers=4, workers_per_node=2, memory_per_worker_gib=10.5), NEEDS, use_gpu=True)
    assert sizes.memory_mib == 2 * 10.5 * 1024 + sizes.shared_memory_mib


def test_workers_that_do_not_fill_their_pods_are_refused() -> None:
    with pytest.raises(SubmissionError, match=r"num_workers=6 is no multiple of cluster.workers_per_node=4.*use 4"):
        pod_sizes(ClusterConfig(num_workers=6, workers_per_node=4), NEEDS, use_gpu=True)


def test_each_worker_with_a_part_of_a_gpu_has_a_pod_of_its_own() -> None:
    cluster = ClusterConfig(num_workers=3, gpu_resource="nvidia.com/mig-1g.10gb")
    sizes = pod_sizes(cluster, NEEDS, use_gpu=True)
    assert (sizes.pods, sizes.gpus, sizes.gpu_resource) == (3, 1, "nvidia.com/mig-1g.10gb")
    assert sizes.stated().startswith("3 pods of 1 worker: 1 nvidia.com/mig-1g.10gb, 4 CPUs, ")
    assert pod_sizes(cluster, NEEDS, use_gpu=False).gpus == 0


def test_sizes_are_stated_in_a_line() -> None:
    sizes = pod_sizes(ClusterConfig(num_workers=4, workers_per_node=2), NEEDS, use_gpu=True)
    assert sizes.stated().startswith("2 pods of 2 workers: 2 GPUs, 8 CPUs, ")
    assert driver_only_sizes().stated() == "head 4 CPUs, 12 GiB, no workers"
