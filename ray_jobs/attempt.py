"""One worker group under Ray Train, from its start to its end."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.exceptions import RayError
from ray.train import WorkerGroupError

from ray_jobs.rank_training import WorkerTask
from ray_jobs.worker import train_worker
from ray_jobs.worker_backend import WorkersOwnGroup

_POLL_S = 0.5
_ENDING_S = 10.0
_NEEDLESS = {"DatasetsCallback"}
"""Ray's callbacks that each start a process for what a run does not use: here, Ray Data."""


def run_attempt(task: WorkerTask, tick: Callable[[], None]) -> Exception | None:
    """Run a worker group to its end; the error that ended it, None when training is done.

    `tick` is called now and then meanwhile. Ray's `fit` runs in a process of its own: in this one it would take over
    Ctrl-C, and in a thread of this one nothing could end it before Ray itself is shut down.
    """
    with tempfile.TemporaryDirectory(prefix="rd-train-") as scratch:
        attempt = ray.remote(_fit).options(num_cpus=0, max_retries=0).remote(task, scratch)
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


def first_line(error: BaseException) -> str:
    """An error in a line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"


class _Trainer(ray.train.torch.TorchTrainer):
    """Without the processes that a run does not use: their start takes seconds of a small machine's processors.

    `_create_default_callbacks` is Ray's own. Where it has another name, nothing is left out, and all works as before.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [each for each in callbacks if type(each).__name__ not in _NEEDLESS]


def _fit(task: WorkerTask, scratch: str) -> Exception | None:
    # Another process, which would ask again and again whether a node is about to go: training ends at any step alike.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    trainer = _Trainer(
        train_worker,
        # By reference: Ray's controller reads this, too, and would load torch to know what a task is.
        train_loop_config={"task": ray.put(task)},
        torch_config=WorkersOwnGroup(),  # pyright: ignore[reportArgumentType] - of it, only the name is asked
        scaling_config=ray.train.ScalingConfig(
            num_workers=task.plan.num_workers,
            use_gpu=task.plan.use_gpu,
            resources_per_worker=task.plan.resources_per_worker,
        ),
        # Checkpoints are ours: what Ray stores is scratch of this attempt, and it restarts nothing by itself.
        run_config=ray.train.RunConfig(
            name="attempt",
            storage_path=scratch,
            failure_config=ray.train.FailureConfig(max_failures=0),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # handed on, whatever it is
        return error
    return None
