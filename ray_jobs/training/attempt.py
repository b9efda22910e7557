"""One worker group under Ray Train, from its start to its end."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from ray.train import WorkerGroupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.session.placement_groups import remove_orphans
from cluster.session.resources import WorkerPlan
from ray_jobs.training.worker_group import fit_worker_group

if TYPE_CHECKING:
    # It loads torch, and the process that starts workers imports this module.
    from ray_jobs.training.rank import WorkerTask

_POLL_S = 0.5
_ENDING_S = 10.0


def train_worker(config: dict[str, Any]) -> None:
    """A worker of `resnet-dist train`; `config` holds a reference to its WorkerTask as "task".

    Ray's controller reads this function, too. If it loaded torch, the workers would start seconds later: so the import
    happens in the worker.
    """
    from ray_jobs.training.worker import train  # noqa: PLC0415

    train(config["task"])


def run_attempt(task: "WorkerTask", tick: Callable[[], None]) -> Exception | None:
    """Run a worker group to its end; the error that ended it, None when training is done.

    `tick` is called about twice a second meanwhile. Ray's `fit` runs in a process of its own: in this one it would
    take over Ctrl-C, and in a thread of this one nothing could end it before Ray itself is shut down.
    """
    with tempfile.TemporaryDirectory(prefix="rd-train-") as scratch:
        # On the driver's node: if another node dies, its workers die, and the process that restarts them lives.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        run = ray.remote(_fit).options(num_cpus=0, max_retries=0, scheduling_strategy=here)
        # Ray passes a reference inside a dictionary on unresolved: only the workers fetch the task.
        attempt = run.remote({"task": ray.put(task)}, task.plan, scratch)
        try:
            while not ray.wait([attempt], timeout=_POLL_S)[0]:
                tick()
            return ray.get(attempt)
        except RayError as error:
            return error
        except BaseException:
            ray.cancel(attempt, force=True)
            with suppress(RayError):
                ray.wait([attempt], timeout=_ENDING_S)
            raise


def causes_of(failure: Exception) -> list[BaseException]:
    """The exceptions that the workers raised."""
    if not isinstance(failure, WorkerGroupError):
        return [failure]
    return [getattr(error, "_base_exc", error) for error in failure.worker_failures.values()]


def _fit(config: dict[str, Any], plan: WorkerPlan, scratch: str) -> Exception | None:
    # Left by an earlier attempt whose controller was killed: nobody else would free its workers' places.
    remove_orphans()
    return fit_worker_group(train_worker, config, plan, scratch, starts=0)
