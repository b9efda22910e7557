"""How many workers fit."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import ClusterConfig
from cluster.errors import ResourceError
from cluster.session import resources
from cluster.session.resources import local_resources, plan_workers
from tests.complaints import complains


@given(
    workers=st.integers(1, 16),
    use_gpu=st.sampled_from([None, True, False]),
    per_worker=st.sampled_from([None, 1, 2, 5]),
    cpus=st.integers(1, 32),
    gpus=st.integers(0, 8),
)
def test_a_plan_fits_or_is_refused_with_what_is_asked_and_there(
    workers: int, use_gpu: bool | None, per_worker: int | None, cpus: int, gpus: int
) -> None:
    config = ClusterConfig(num_workers=workers, use_gpu=use_gpu, cpus_per_worker=per_worker)
    on_gpu = gpus > 0 if use_gpu is None else use_gpu
    fits = workers * (per_worker or 1) <= cpus and (not on_gpu or workers <= gpus)
    if not fits:
        with pytest.raises(ResourceError, match=rf"{workers}.*; use"):
            plan_workers(config, cpus, gpus)
        return
    plan = plan_workers(config, cpus, gpus)
    assert (plan.num_workers, plan.use_gpu) == (workers, on_gpu)
    assert plan.threads == plan.cpus_per_worker == (per_worker or cpus // workers)
    assert plan.resources_per_worker == {"CPU": plan.threads} | ({"GPU": 1} if on_gpu else {})


def test_a_refusal_names_the_way_out() -> None:
    with pytest.raises(ResourceError) as too_few:
        plan_workers(ClusterConfig(num_workers=3), 2, 0)
    assert complains(too_few, "cluster.num_workers", 3, 2, "cluster.local_cpus=3", remedy="use")
    with pytest.raises(ResourceError) as too_wide:
        plan_workers(ClusterConfig(num_workers=2, cpus_per_worker=4), 2, 0)
    assert complains(too_wide, "cluster.num_workers", 2, "cluster.cpus_per_worker", 4, 8, remedy="use")
    with pytest.raises(ResourceError) as too_few_gpus:
        plan_workers(ClusterConfig(num_workers=4), 64, 2)
    assert complains(too_few_gpus, "cluster.num_workers", 4, "at most 2 workers", remedy="use")
    with pytest.raises(ResourceError) as no_gpu:
        plan_workers(ClusterConfig(num_workers=4, use_gpu=True), 64, 0)
    assert complains(no_gpu, "cluster.use_gpu", 4, "cluster.use_gpu=false", remedy="use")


def test_this_machine_has_its_cores_or_what_the_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= local_resources(ClusterConfig())[0] <= len(os.sched_getaffinity(0))
    assert local_resources(ClusterConfig(local_cpus=64))[0] == 64
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_resources(ClusterConfig())[1] == 0


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 1 << 20), ("150000 100000", 2), ("50000 100000", 1), ("", 1 << 20)]
)
def test_a_quota_of_a_container_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(resources, "_CPU_QUOTA", tmp_path / "cpu.max")
    assert local_resources(ClusterConfig())[0] == min(len(os.sched_getaffinity(0)), cores)
    assert local_resources(ClusterConfig(local_cpus=7))[0] == 7
