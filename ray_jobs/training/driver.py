"""`resnet-dist train`: prepares a run on the driver, launches its workers, restarts them where they fail."""

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import ray

from cluster.errors import RayDiedError
from cluster.session.resources import local_resources, plan_workers
from cluster.session.session import ray_session
from cluster.session.wait_for_nodes import plan_when_there, wait_for_room
from cluster.storage.lease import check_free
from cluster.storage.outage_watch import storage_watched
from cluster.storage.process_identity import ProcessIdentity
from data_pipeline.listing.samples import Samples
from data_pipeline.splits.assign import write_split_csv
from ray_jobs.data.node_images import NodeImages
from ray_jobs.data.prepare import PreparedData, prepare_data
from ray_jobs.errors import ConfigError, JobFailedError, first_line
from ray_jobs.inspection.leakage import check_leakage
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lifecycle import finished_before, is_done, outcome_of, standing, write_end
from ray_jobs.run.outcome import TrainOutcome
from ray_jobs.terminal.console import progress_console
from ray_jobs.terminal.end_signals import as_heard
from ray_jobs.training.attempt import attempt, causes_of
from ray_jobs.training.initial_weights import InitialWeights
from ray_jobs.training.progress import ProgressView
from ray_jobs.training.rank import WorkerTask
from ray_jobs.training.resolve import check_compiler, resolved_job
from ray_jobs.training.restart_policy import (
    Failure,
    Limits,
    Past,
    Raise,
    Restart,
    Retry,
    Shrink,
    StartOver,
    Wait,
    after_death,
    decide,
)
from ray_jobs.training.teacher_network import TeacherNetwork
from ray_jobs.training.warning_lines import start_warnings
from ray_jobs.training.worker_group import found_no_room
from resnet_dist.run_records import Status


def run_train(job: JobConfig, submission: str | None = None) -> TrainOutcome:
    """Train the job's run from where it stands, or report it as it is when it is finished.

    Retries of a submission give its name as `submission`; by default each call is a submission of its own.
    Raises ConfigError, DataError, RunError, DivergedError, StorageError or ResourceError where another try would fail
    alike, JobFailedError when workers failed too often, KeyboardInterrupt when interrupted, TerminationError at
    SIGTERM where the process answers it so.
    """
    submission = submission or uuid.uuid4().hex
    run = RunDirectory.named(job.storage.root, run_name(job)).at_start(job.storage.outage_s, _say)
    with ExitStack() as sessions:
        if job.cluster.address is not None:
            sessions.enter_context(ray_session(job.cluster))  # only it knows what there is to train on
        return _train(job, run, submission)


def check_start(job: JobConfig) -> None:
    """Raise what `run_train` would raise before it starts a Ray of its own; nothing of a cluster is asked."""
    run = RunDirectory.named(job.storage.root, run_name(job)).at_start(job.storage.outage_s, _say)
    job, data, use_gpu = _prepared(job, run, local_only=True)
    progress = run.progress()
    if progress is None or not is_done(progress, job):
        check_compiler(job, use_gpu)
        check_leakage(job, data.dataset)


def _prepared(job: JobConfig, run: RunDirectory, *, local_only: bool = False) -> tuple[JobConfig, PreparedData, bool]:
    """The job with nothing left to choose, its data, and whether it trains on GPUs."""
    use_gpu = False
    if job.cluster.address is None:
        use_gpu = plan_workers(job.cluster, *local_resources(job.cluster)).use_gpu
    elif not local_only:
        use_gpu = plan_when_there(job.cluster, _say).use_gpu
    if not job.data.root:
        raise ConfigError("data.root is not set; name an ImageFolder with --data.root DIR")
    data = prepare_data(job)
    return resolved_job(job, run, data, use_gpu), data, use_gpu


def _train(job: JobConfig, run: RunDirectory, submission: str) -> TrainOutcome:
    """Refuses what cannot work before it writes anything or starts an embedded Ray."""
    job, data, use_gpu = _prepared(job, run)
    _check_free(run, job, submission)
    progress = standing(run, job)
    if progress is not None and is_done(progress, job):
        return finished_before(run, job, progress, data.summary(), write_split_csv(data.split_rows()))
    check_compiler(job, use_gpu)
    leaks = check_leakage(job, data.dataset)

    def initial_weights() -> InitialWeights:
        return InitialWeights.of(job, len(data.dataset.samples.classes), run)

    initial, teacher = initial_weights() if progress is None else None, TeacherNetwork.of(job)
    run.write_records(job, data.summary(), write_split_csv(data.split_rows()))
    run.write_status(Status(state="starting", submission=submission, epochs=job.training.epochs))
    begun = RunDirectory(run.store.settled().impatient())
    run = run.waiting(job.storage.outage_s, _say, lambda: _check_free(begun, job, submission))
    try:
        with ProgressView(begun, data) as view, storage_watched(run.store, view.say):
            view.show_stages(job, len(data.dataset.samples.classes))
            train, val = data.split("train"), data.split("val")
            warnings = (*start_warnings(job, data), *leaks)
            view.warn(warnings)
            view.show_start(job.cluster.num_workers)
            training = _Training(job, run, train, val, submission, view, initial_weights, teacher, warnings)
            # A first failure is the first in a row, whatever was reached before: nothing need be read.
            training.until_done(_Standing(initial, Past(0)))
        outcome = _verified_outcome(run, job, data.summary())
        run.write_result(outcome.to_json())
    except BaseException as error:
        is_signal = isinstance(error, KeyboardInterrupt | SystemExit)
        write_end(begun if is_signal else run, submission, error)  # who ends this process waits for no storage
        raise
    write_end(run, submission, None, outcome.ending)
    return outcome


@dataclass
class _Standing:
    """What changes from one worker group to the next, and survives the death of an embedded Ray."""

    initial: InitialWeights | None
    """For workers that find no checkpoint."""
    past: Past
    most_per_microbatch: int | None = None


@dataclass(frozen=True)
class _Training:
    """A run's worker groups, one after the other, until one ends well or it is given up."""

    job: JobConfig
    run: RunDirectory
    train: Samples
    val: Samples
    submission: str
    view: ProgressView
    initial_weights: Callable[[], InitialWeights]
    teacher: TeacherNetwork | None
    warnings: tuple[str, ...]

    def until_done(self, standing: _Standing) -> None:
        """With one Ray after the other, where embedded ones die."""
        cluster = self.job.cluster
        while True:
            try:
                with ray_session(cluster):
                    self._with_this_ray(standing)
            except RayDiedError as death:
                step = _newest_step(self.run)
                match after_death(death, standing.past, cluster.max_restarts, f"step {step}"):
                    case Raise(reason):
                        raise reason from death
                    case Restart(past, pause_s):
                        standing.past = past
                        self.view.say(f"{death}; starting it again in {pause_s:g} s, from step {step}")
                        time.sleep(pause_s)
            else:
                return

    def _with_this_ray(self, standing: _Standing) -> None:
        run, view, cluster = self.run, self.view, self.job.cluster
        task = self._task(standing)
        workers = f"{task.plan.num_workers} workers with {task.plan.resources_per_worker} each"
        size = self.job.training.global_batch_size
        limits = Limits(cluster.max_failures, cluster.wait_for_nodes_s, size, workers)
        while True:
            wait_for_room(task.plan, cluster, view.say)
            began_s = time.monotonic()
            error = self._attempt(task)
            if error is None:
                return
            causes = causes_of(error)
            failure = Failure(causes, found_no_room(error), began_s, time.monotonic())
            decision = decide(failure, standing.past, limits, lambda: _newest_step(run))
            match decision:
                case Raise(reason):
                    raise reason from error
                case Wait(_, left_s):
                    view.say(f"no room for {task.plan.num_workers} workers yet; waiting for {left_s:.0f} s at most")
                case Shrink(_, size, cause):
                    view.say(f"{cause}: starting again from the last checkpoint with {size}")
                    standing.most_per_microbatch = size
                    task = replace(task, most_per_microbatch=size)
                case StartOver():
                    view.say("no checkpoint of the run is whole; starting over from the initial weights")
                    standing.initial = self.initial_weights()
                    task = replace(task, initial_weights=ray.put(standing.initial))
                case Retry(_, step):
                    view.say(f"a worker failed ({first_line(causes[0])}); restarting from step {step}")
            standing.past = decision.past

    def _task(self, standing: _Standing) -> WorkerTask:
        return WorkerTask(
            job=self.job,
            run_uri=self.run.uri,
            train=self.train,
            val=self.val,
            images=NodeImages.of(self.job.data, self.train, self.val),
            plan=plan_when_there(self.job.cluster, self.view.say),
            submission=self.submission,
            driver=ProcessIdentity.current(),
            initial_weights=None if standing.initial is None else ray.put(standing.initial),
            teacher=None if self.teacher is None else ray.put(self.teacher),
            most_per_microbatch=standing.most_per_microbatch,
            warnings=self.warnings,
        )

    def _attempt(self, task: WorkerTask) -> Exception | None:
        """One worker group; the error that ended it, None when training is done."""
        with attempt(task) as running:
            try:
                return running.result(self.view.refresh)
            except (KeyboardInterrupt, SystemExit) as error:
                end = as_heard(error) if isinstance(error, KeyboardInterrupt) else error
                running.store_last_checkpoint(self.job.checkpoint.at_end_s, self.view.say)
                # Now, and not only at the end: whoever ends this process may leave it only seconds.
                write_end(RunDirectory(self.run.store.impatient()), self.submission, end)
                raise end from None


def _check_free(run: RunDirectory, job: JobConfig, submission: str) -> None:
    check_free(run.store, submission=submission, ttl_s=job.cluster.lease_ttl_s)


def _newest_step(run: RunDirectory) -> int:
    """Of the newest checkpoint that is whole. Only failures ask, so its weights are read seldom; a damaged one that
    counted would hide the steps that workers make beyond the one before it."""
    newest = run.latest()
    return 0 if newest is None else newest.step


def _verified_outcome(run: RunDirectory, job: JobConfig, dataset: dict[str, Any]) -> TrainOutcome:
    """The results of a run whose workers ended well. Nobody has read its last weights yet, so they are verified."""
    newest = run.latest()
    if newest is None or not is_done(newest.progress, job):
        raise JobFailedError(
            f"{run.uri} has no whole checkpoint of its last step after training; start the same command again, which "
            "goes on from the last whole one"
        )
    return outcome_of(run, newest.progress, job, dataset)


def _say(text: str) -> None:
    progress_console().print(text, markup=False, soft_wrap=True)
