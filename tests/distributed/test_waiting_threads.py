"""A worker on a Ray that others have started bounds OpenMP's spinning before it loads torch."""

import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.session.environment import environment
from cluster.session.openmp import BOUNDED_SPINNING, WAIT_POLICY
from cluster.session.resources import WorkerPlan
from ray_jobs.training.worker_group import fit_worker_group

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels bring GNU's library on Linux only"),
]


def _name_process(config: dict[str, Any], folder: str) -> None:  # noqa: ARG001
    import torch  # noqa: PLC0415

    Path(folder, str(os.getpid())).write_text(str(torch.get_num_threads()))


def test_a_worker_of_a_foreign_ray_spins_no_longer(tmp_path: Path):
    untouched = dict.fromkeys([*BOUNDED_SPINNING, WAIT_POLICY])
    plan = WorkerPlan(num_workers=1, use_gpu=False, cpus_per_worker=1)
    with (
        environment(untouched | {"OMP_DISPLAY_ENV": "verbose", "RAY_AUTH_MODE": "disabled"}),
        tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp") as folder,
    ):
        context = ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder, _node_ip_address="127.0.0.1"
        )
        try:
            function = partial(_name_process, folder=str(tmp_path))
            assert fit_worker_group(function, {}, plan, str(tmp_path / "scratch"), starts=0) is None
            (process,) = (path.name for path in tmp_path.iterdir() if path.name.isdigit())
            (log,) = Path(context.address_info["session_dir"], "logs").glob(f"worker-*-{process}.err")
            shown = {line.split("'")[1] for line in log.read_text().splitlines() if "GOMP_SPINCOUNT" in line}
        finally:
            ray.shutdown()
    assert shown == {BOUNDED_SPINNING["GOMP_SPINCOUNT"]}
