"""A worker on a Ray that others have started bounds OpenMP's spinning before it loads torch.

The driver must not change the environment, as the command line does: workers of an embedded Ray would inherit it.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.session.environment import environment
from cluster.session.openmp import BOUNDED_SPINNING, WAIT_POLICY
from cluster.session.resources import WorkerPlan
from ray_jobs.evaluation.evaluate import run_evaluate
from ray_jobs.job.config import JobConfig
from ray_jobs.training.driver import run_train
from ray_jobs.training.worker_group import fit_worker_group

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels bring GNU's library on Linux only"),
]


def _name_process(config: dict[str, Any], folder: str) -> None:  # noqa: ARG001
    import torch  # noqa: PLC0415

    Path(folder, str(os.getpid())).write_text(str(torch.get_num_threads()))


@pytest.fixture
def logs() -> Iterator[Path]:
    """Where a Ray that bounds nothing keeps what its workers print: OpenMP's settings, when it is loaded."""
    untouched = dict.fromkeys([*BOUNDED_SPINNING, WAIT_POLICY])
    with (
        environment(untouched | {"OMP_DISPLAY_ENV": "verbose", "RAY_AUTH_MODE": "disabled"}),
        tempfile.TemporaryDirectory(prefix="rd-", dir="/tmp") as folder,
    ):
        context = ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder, _node_ip_address="127.0.0.1"
        )
        try:
            yield Path(context.address_info["session_dir"], "logs")
        finally:
            ray.shutdown()


def shown_by(log: Path) -> set[str]:
    return {line.split("'")[1] for line in log.read_text().splitlines() if "GOMP_SPINCOUNT" in line}


def test_a_worker_of_a_foreign_ray_spins_no_longer(logs: Path, tmp_path: Path):
    plan = WorkerPlan(num_workers=1, use_gpu=False, cpus_per_worker=1)
    function = partial(_name_process, folder=str(tmp_path))
    assert fit_worker_group(function, {}, plan, str(tmp_path / "scratch"), starts=0) is None
    (process,) = (path.name for path in tmp_path.iterdir() if path.name.isdigit())
    (log,) = logs.glob(f"worker-*-{process}.err")
    assert shown_by(log) == {BOUNDED_SPINNING["GOMP_SPINCOUNT"]}


def test_nor_does_one_that_evaluates(logs: Path, make_job: Callable[..., JobConfig]):
    job = make_job("spinning", 1, {"training": {"epochs": 1}})
    outcome = run_train(job)
    before = {*logs.glob("worker-*.err")}
    run_evaluate(outcome.run, "val", "last", {"cluster": {"num_workers": 2, "cpus_per_worker": 1}})
    shown = [shown_by(log) for log in {*logs.glob("worker-*.err")} - before]
    assert [each for each in shown if each] == [{BOUNDED_SPINNING["GOMP_SPINCOUNT"]}] * 2
