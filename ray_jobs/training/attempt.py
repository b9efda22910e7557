"""One worker group under Ray Train, from its start to its end."""

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from ray.train import WorkerGroupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.session.placement_groups import remove_orphans
from cluster.session.resources import WorkerPlan
from cluster.session.scratch import scratch_folder
from cluster.session.servers import lives, require_answer, require_life
from ray_jobs.training.last_checkpoint import LastCheckpoint
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


class Attempt:
    """One worker group that runs."""

    def __init__(self, reference: "ray.ObjectRef[Exception | None]", last_checkpoint: LastCheckpoint) -> None:
        self.reference = reference
        self.has_ended = False
        self._last_checkpoint = last_checkpoint

    def result(self, tick: Callable[[], None]) -> Exception | None:
        """Wait for its end; the error that ended it, None when training is done. Raises RayDiedError, and
        TargetUnreachableError where a Ray of others does not answer.

        `tick` is called about twice a second meanwhile.
        """
        while not ray.wait([self.reference], timeout=_POLL_S)[0]:
            require_life()
            tick()
        self.has_ended = True
        try:
            error = ray.get(self.reference)
        except RayError as ended:
            error = ended
        if error is not None:
            require_answer()
        return error

    def store_last_checkpoint(self, seconds: float, say: Callable[[str], None]) -> None:
        """Let rank zero store a checkpoint where steps would be lost, and train no further. Waits `seconds` at most."""

        def goes_on() -> bool:
            return lives() and not ray.wait([self.reference], timeout=0)[0]

        if seconds > 0 and lives() and not self.has_ended:
            step = self._last_checkpoint.request(seconds, goes_on, say)
            if step is not None:
                say(f"step {step} is stored")


@contextmanager
def attempt(task: "WorkerTask") -> Generator[Attempt]:
    """Within, a worker group trains; it ends with the block.

    Ray's `fit` runs in a process of its own: in this one it would take over Ctrl-C, and in a thread of this one nothing
    could end it before Ray itself is shut down.
    """
    last_checkpoint = LastCheckpoint()
    task = replace(task, last_checkpoint=last_checkpoint.key)
    with scratch_folder("rd-train-") as scratch:
        # On the driver's node: if another node dies, its workers die, and the process that restarts them lives.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        run = ray.remote(_fit).options(num_cpus=0, max_retries=0, scheduling_strategy=here)
        # Ray passes a reference inside a dictionary on unresolved: only the workers fetch the task.
        running = Attempt(run.remote({"task": ray.put(task)}, task.plan, str(scratch)), last_checkpoint)
        try:
            yield running
        finally:
            if lives():  # a dead Ray has ended its workers, and would not answer
                if not running.has_ended:
                    ray.cancel(running.reference, force=True)
                    with suppress(RayError):
                        ray.wait([running.reference], timeout=_ENDING_S)
                last_checkpoint.forget()


def causes_of(failure: Exception) -> list[BaseException]:
    """The exceptions that the workers raised."""
    if not isinstance(failure, WorkerGroupError):
        return [failure]
    return [getattr(error, "_base_exc", error) for error in failure.worker_failures.values()]


def _fit(config: dict[str, Any], plan: WorkerPlan, scratch: str) -> Exception | None:
    # Left by an earlier attempt whose controller was killed: nobody else would free its workers' places.
    remove_orphans()
    return fit_worker_group(train_worker, config, plan, scratch, starts=0)
