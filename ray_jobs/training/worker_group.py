"""A Ray Train worker group that runs a function of ours: its shape, and what Ray sets up on its workers.

Ray's controller loads this module and would start seconds later if it loaded torch: so only workers import torch.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import ray.train
from ray.train import ControllerError
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from cluster.session.openmp import bound_spinning
from cluster.session.resources import WorkerPlan

_NEEDLESS = {"DatasetsCallback", "PlacementGroupCleanerCallback"}
"""Ray's callbacks that each start a process for what a run does not use: Ray Data, and what `remove_orphans` does."""


def fit_worker_group(
    function: Callable[[dict[str, Any]], None],
    config: dict[str, Any],
    plan: WorkerPlan,
    scratch: str,
    starts: int = -1,
) -> Exception | None:
    """Run a function on every rank to its end; the error that ended it, None when all is done.

    Ray starts a group again that found no room for a minute or lost a worker while it started, `starts` times; -1:
    always, and silently. `config` should hold plain values and references: Ray's controller unpickles it, too, and
    would load the modules of whatever is in it.
    """
    # One process less: it would poll whether a node is about to be taken away, which a run survives at any step.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    trainer = _Trainer(
        function,
        train_loop_config=config,
        backend_config=_DeviceOnly(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=plan.num_workers,
            use_gpu=plan.use_gpu,
            resources_per_worker=plan.resources_per_worker,
        ),
        # We write the checkpoints: what Ray stores is scratch of this attempt. Ray restarts nothing by itself.
        run_config=ray.train.RunConfig(
            name="attempt",
            storage_path=scratch,
            failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=starts),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:  # returned, whatever it is
        return error
    return None


def found_no_room(failure: Exception) -> bool:
    """Whether a worker group did not start because its places were taken."""
    cause = failure.controller_failure if isinstance(failure, ControllerError) else None
    return type(cause).__name__ == "WorkerGroupStartupTimeoutError"  # a class of Ray's internal modules


class _Trainer(DataParallelTrainer):
    """TorchTrainer, but without torch, which only workers need, and without the processes that a run does not use.

    Starting those takes seconds on a small machine. `_create_default_callbacks` is Ray's own method: if Ray renames it,
    nothing is left out, and everything still works.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [each for each in callbacks if type(each).__name__ not in _NEEDLESS]

    def _initialize_and_run_controller(self, **arguments: Any) -> Any:
        return super()._initialize_and_run_controller(
            **arguments | {"scaling_policy": _FixedSize(scaling_config=self.scaling_config)}
        )


class _FixedSize(FixedScalingPolicy):
    """As Ray's, but says nothing to Ray's AutoscalingCoordinator, an actor that loads Ray Data and lives for hours.

    An autoscaler sees the group's placement group anyway: it adds nodes while the group waits, and removes none that
    the group uses.
    """

    def _send_resource_request(self) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass

    def _cancel_resource_request(self) -> None:
        pass


class _NoBackend(Backend):
    """Sets nothing up, but lets the workers of a node see each other's GPUs, as NCCL needs."""

    share_cuda_visible_devices = True


class _OnOwnDevice(nullcontext[None]):
    def __enter__(self) -> None:
        bound_spinning()  # before torch is loaded
        import ray.train.torch  # noqa: PLC0415
        import torch  # noqa: PLC0415

        device = ray.train.torch.get_device()
        if device.type == "cuda":
            torch.cuda.set_device(device)


class _DeviceOnly(BackendConfig):
    """As Ray's TorchConfig, but Ray sets only the device: the workers make the process group, with `process_group`."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray runs on its workers before the training function."""
        return _NoBackend

    @property
    def train_func_context(self) -> type[nullcontext[None]]:
        """What the training function runs within."""
        return _OnOwnDevice
