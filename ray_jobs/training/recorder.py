"""What rank zero writes down while a run trains: metrics, checkpoints, status, messages."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from types import TracebackType
from typing import NoReturn, Self

from cluster.errors import RunHeldError, StorageError, StorageOutageError
from cluster.storage.lease import Lease
from cluster.storage.outage import Patience
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.trackers.build import build_tracker, tracked_run
from ray_jobs.trackers.tracker import Plain
from ray_jobs.training.last_checkpoint import EndedOnRequestError, Requests
from ray_jobs.training.silent_recorder import EpochBarrier
from ray_jobs.training.warning_lines import OneAnswerWatch
from resnet_dist.checkpoint.background_writer import BackgroundWriter
from resnet_dist.checkpoint.contents import Checkpoint, Snapshot
from resnet_dist.checkpoint.progress import Best, Microbatches, Progress, best_stored, better
from resnet_dist.checkpoint.writing import CheckpointFolder
from resnet_dist.model.model_json import describe
from resnet_dist.run_records import MetricLog, Status, cut_back
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import StepTotals

_STATUS_INTERVAL_S = 1.0
_METRICS, _CHECKPOINT, _MESSAGES, _STATUS = _KINDS = ("metrics", "checkpoint", "messages", "status")
"""What is written, in this order where several wait: a checkpoint never lies there without the metrics before it."""


@dataclass(frozen=True)
class RunStart:
    """What is known of a run when this process begins to train it."""

    job: JobConfig
    run: RunDirectory
    lease: Lease
    submission: str
    resumed_from: Checkpoint | None
    microbatches: Microbatches
    steps_per_epoch: int
    classes: Sequence[Sequence[Plain]] = ()
    """Name, training and validation images of each class, for the tracker."""
    last_checkpoint: str | None = None
    """The key of the driver's LastCheckpoint; None: it never asks for one."""


class RunRecorder:
    """On rank zero. All is written while training goes on.

    Storage that is away is waited for; only another error of writing ends the run, whose earlier checkpoints stay.
    """

    def __init__(self, start: RunStart, messages: list[str], epoch_barrier: EpochBarrier) -> None:
        """`messages`: the lines of the log, to which others add while the run trains."""
        job, run, lease = start.job, start.run, start.lease
        self._start = start
        self._job = job
        # Who holds the run asks for its lease before whatever is written after an outage: so no single call is retried.
        store = run.store.impatient()
        self._run = RunDirectory(store)
        self._metrics = MetricLog(store, lease.claim)
        self._checkpoints = CheckpointFolder(
            store,
            lease.claim,
            lease.history,
            lease.confirm,
            job.checkpoint.keep_last,
            job.checkpoint.monitor,
            run.records.origin(),
        )
        patience = Patience(job.storage.outage_s, self._hear_storage, lease.confirm)
        self._writer = BackgroundWriter(_KINDS, patience.wait_out)
        self._storage_word = ""
        self._lease = lease
        self._best = _best_so_far(run, lease, start.resumed_from, job.checkpoint.monitor)
        self._messages = messages
        self._one_answer = OneAnswerWatch(start.classes)
        self._generation = lease.claim[0]
        self._totals: StepTotals | None = None
        self._waited = 0.0
        self._measured_from = monotonic()
        self._checkpointed_at = monotonic()
        self._checkpointed = (0 if start.resumed_from is None else start.resumed_from.step, False)
        self._requests = Requests(start.last_checkpoint)
        self._status = Status(
            state="running",
            submission=start.submission,
            generation=self._generation,
            epochs=job.training.epochs,
            steps_per_epoch=start.steps_per_epoch,
            messages=len(messages),
        )
        self._status_written_at = 0.0
        self._epoch_barrier = epoch_barrier
        resumed_step = None if start.resumed_from is None else start.resumed_from.step
        self._tracker = build_tracker(job.tracker, lambda: tracked_run(job, run, resumed_step))

    def __enter__(self) -> Self:
        """Drop the records behind the step that training starts from, and say that it begins."""
        resumed_from, store = self._start.resumed_from, self._start.run.store
        step = 0 if resumed_from is None else resumed_from.step
        owed = resumed_from is not None and resumed_from.progress.validation_owed
        self._messages += cut_back(store, self._lease.history, step, validation_owed=owed)
        self._status = replace(self._status, messages=len(self._messages))
        self._writer.__enter__()
        self._requests.__enter__()
        self._put_messages()
        self._put_status()
        self._tracker.start()
        self._tracker.table("classes", ("class", "train", "val"), self._start.classes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Store what is still to be stored; after an error, without hiding it."""
        self._requests.__exit__(kind, error, trace)
        failure = error
        try:
            if error is None:
                self._put_metrics()
                self._writer.drain()
        except BaseException as raised:
            failure = raised
            raise
        finally:
            is_stopped = isinstance(failure, EndedOnRequestError)
            self._tracker.finish("finished" if failure is None else "stopped" if is_stopped else "failed")
            self._hear_tracker()
            if failure is None:
                self._put_status()
            self._writer.__exit__(None if failure is None else type(failure), failure, trace)

    def step_done(self, state: TrainState, totals: StepTotals, waited: float) -> None:
        """Record metrics now and then, and a checkpoint when one is due by steps or by time, or is asked for.

        Raises EndedOnRequestError once a checkpoint that the driver asked for is stored.
        """
        self._writer.raise_failure()
        self._totals = totals if self._totals is None else self._totals + totals
        self._waited += waited
        if self._totals.steps >= self._job.training.log_every_steps or state.validation_owed:
            self._record_steps(state, self._totals)
        every_steps, every_minutes = self._job.checkpoint.every_steps, self._job.checkpoint.every_minutes
        due_by_steps = every_steps is not None and state.step % every_steps == 0
        due_by_time = every_minutes is not None and monotonic() - self._checkpointed_at >= 60.0 * every_minutes
        if due_by_steps or due_by_time:
            self._checkpoint(state, None)
        if self._requests.pending:
            self._end_with_checkpoint(state, None)

    def epoch_done(self, state: TrainState, metrics: dict[str, float]) -> bool:
        """Record the validation metrics, checkpoint when one is due, meet the other ranks. Raises as `step_done`."""
        value = metrics[self._job.checkpoint.monitor]
        first = self._best is None and math.isfinite(value)
        if first or (self._best is not None and better(self._job.checkpoint.monitor, value, self._best.value)):
            self._best = Best(step=state.step, value=value, monitor=self._job.checkpoint.monitor)
        self._metrics.append({"step": state.step, "epoch": state.epoch, **metrics})
        self._put_metrics()
        self._tracker.log(state.step, {"train/epoch": state.epoch, **metrics})
        self._tracker.epoch_done()
        self._messages += self._one_answer.after(state.epoch, state.answered)
        self._hear_tracker()
        self._status = replace(
            self._status,
            step=state.step,
            epoch=state.epoch,
            metrics={**self._status.metrics, **metrics},
        )
        self._put_status()
        is_last = state.epoch == self._job.training.epochs or (
            state.stopping is not None and state.stopping.should_stop
        )
        if state.epoch % self._job.checkpoint.every_epochs == 0 or is_last:
            self._checkpoint(state, metrics)
        if self._requests.pending:
            self._end_with_checkpoint(state, metrics)
        # Time spent on validation, checkpoints and this meeting is not training's throughput.
        goes_on = self._epoch_barrier(state, metrics)
        self._measured_from = monotonic()
        return goes_on

    def _record_steps(self, state: TrainState, totals: StepTotals) -> None:
        numbers = totals.metrics()  # waits for the device, so the clock is read after it
        now = monotonic()
        seconds = max(now - self._measured_from, 1e-9)
        numbers |= {
            "perf/images_per_second": totals.samples / seconds,
            "perf/data_wait_share": min(self._waited / seconds, 1.0),
            "train/learning_rate": totals.learning_rate,
        }
        self._metrics.append({"step": state.step, "epoch": state.epoch, **numbers})
        self._tracker.log(state.step, numbers)
        self._totals, self._waited, self._measured_from = None, 0.0, now
        if now - self._status_written_at >= _STATUS_INTERVAL_S:
            self._hear_tracker()
            steps_left = self._job.training.epochs * self._start.steps_per_epoch - state.step
            self._status = replace(
                self._status,
                step=state.step,
                epoch=state.epoch,
                metrics={**self._status.metrics, **numbers},
                images_per_second=numbers["perf/images_per_second"],
                learning_rate=numbers["train/learning_rate"],
                data_wait_share=numbers["perf/data_wait_share"],
                eta_s=steps_left * seconds / totals.steps,
            )
            self._put_status()
            self._status_written_at = now

    def _checkpoint(self, state: TrainState, metrics: dict[str, float] | None) -> None:
        self._writer.wait_for(_CHECKPOINT)
        progress = Progress(
            step=state.step,
            epoch=state.epoch,
            step_in_epoch=state.step_in_epoch,
            microbatches=self._start.microbatches,
            validation_owed=state.validation_owed,
            metrics=metrics,
            best=self._best,
            plateau=state.plateau.to_json(),
            early_stopping=None if state.stopping is None else state.stopping.to_json(),
        )
        snapshot = Snapshot(
            model=describe(state.model),
            weights=state.judged_weights(),
            training_state=state.training_state(),
            progress=progress,
        )
        self._put_metrics()
        self._writer.put(_CHECKPOINT, partial(self._checkpoints.write, snapshot))
        self._checkpointed_at = monotonic()
        self._checkpointed = (state.step, state.validation_owed)

    def _end_with_checkpoint(self, state: TrainState, metrics: dict[str, float] | None) -> NoReturn:
        """Where a step would be lost, store it; then this rank trains no further, and says nothing more of the run."""
        if self._checkpointed != (state.step, state.validation_owed):
            self._checkpoint(state, metrics)
        self._writer.drain()
        self._requests.answer(state.step)
        raise EndedOnRequestError(f"ended by the driver after step {state.step}")

    def _put_metrics(self) -> None:
        """Store what was recorded up to then."""
        self._writer.put(_METRICS, self._write_metrics)

    def _write_metrics(self) -> None:
        self._lease.confirm()  # an empty folder where storage is not mounted has no lease
        self._metrics.flush()

    def _put_status(self) -> None:
        """Say how far training is, in words what storage did last."""
        status = replace(self._status, message=self._storage_word)
        self._writer.put(_STATUS, partial(self._write_words, partial(self._run.write_status, status)))

    def _write_words(self, write: Callable[[], None]) -> None:
        """Raises RunHeldError when the run is another process's by now: so is its status."""
        try:
            self._lease.confirm()
            write()
        except (RunHeldError, StorageOutageError):
            raise
        except StorageError:
            return  # words are not worth a run; a checkpoint that cannot be stored does end it

    def _hear_tracker(self) -> None:
        """Take over the tracker's link and what it, storage, or training has to say."""
        self._status = replace(self._status, tracker=self._tracker.link)
        self._messages += self._tracker.take_messages()
        if len(self._messages) > self._status.messages:
            self._status = replace(self._status, messages=len(self._messages))
            self._put_messages()

    def _hear_storage(self, text: str) -> None:
        """In the thread that writes."""
        self._storage_word = text
        self._messages.append(text)

    def _put_messages(self) -> None:
        text = "".join(f"{message}\n" for message in self._messages)
        write = partial(self._run.store.write, f"logs/generation-{self._generation:06d}.log", text.encode())
        self._writer.put(_MESSAGES, partial(self._write_words, write))


def _best_so_far(run: RunDirectory, lease: Lease, resumed_from: Checkpoint | None, monitor: str) -> Best | None:
    """As the checkpoint says, or, when another metric was monitored until now, among the epochs that are stored."""
    if resumed_from is None:
        return None
    best = resumed_from.progress.best
    if best is None or best.monitor == monitor:
        return best
    return best_stored(run.store, lease.history, resumed_from.step, monitor)
