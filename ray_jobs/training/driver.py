"""`resnet-dist train`: prepares a run on the driver, launches its workers, restarts them where they fail."""

import time
import uuid
from contextlib import ExitStack
from dataclasses import replace

import ray
from rich.console import Console

from cluster.errors import ResourceError
from cluster.session.resources import local_resources, plan_workers
from cluster.session.session import ray_session
from cluster.session.wait_for_nodes import plan_when_there, wait_for_room
from cluster.storage.lease import check_free
from cluster.storage.process_identity import ProcessIdentity
from data_pipeline.splits.assign import write_split_csv
from ray_jobs.data.node_images import NodeImages
from ray_jobs.data.prepare import PreparedData, prepare_data
from ray_jobs.errors import CERTAIN, ConfigError, JobFailedError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lifecycle import is_done, newest_checkpoint, outcome_of, write_end, write_records
from ray_jobs.run.outcome import TrainOutcome
from ray_jobs.training.attempt import causes_of, first_line, run_attempt
from ray_jobs.training.compiler_check import check_compiler
from ray_jobs.training.initial_weights import FirstWeights
from ray_jobs.training.progress import ProgressView
from ray_jobs.training.rank import WorkerTask
from ray_jobs.training.resolve import resolved_job
from ray_jobs.training.worker_group import found_no_room
from resnet_dist.errors import RunError
from resnet_dist.run_records import Status
from resnet_dist.training.out_of_memory import MicrobatchTooLargeError, halved


def run_train(job: JobConfig, submission: str | None = None) -> TrainOutcome:
    """Train the job's run from where it stands, or report it as it is when it is finished.

    `submission` names who asks, so that retries of it are known as such; by default each call is one of its own.
    Raises ConfigError, DataError, RunError, DivergedError, StorageError or ResourceError for what another try would
    not mend, JobFailedError when workers failed too often, KeyboardInterrupt when interrupted.
    """
    submission = submission or uuid.uuid4().hex
    run = RunDirectory.named(job.storage.root, run_name(job))
    with ExitStack() as sessions:
        if job.cluster.address is not None:
            sessions.enter_context(ray_session(job.cluster))  # only it knows what there is to train on
        return _train(job, run, submission)


def check_start(job: JobConfig) -> None:
    """Raise what `run_train` would refuse before a Ray of its own is started; a cluster's resources are not asked."""
    run = RunDirectory.named(job.storage.root, run_name(job))
    job, _, use_gpu = _prepared(job, run, local_only=True)
    newest = newest_checkpoint(run)
    if newest is None or not is_done(newest, job):
        check_compiler(job, use_gpu)


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
    """What cannot work is refused before anything is written or an embedded Ray is started."""
    job, data, use_gpu = _prepared(job, run)
    check_free(run.store, submission=submission, ttl_s=job.cluster.lease_ttl_s)
    newest = newest_checkpoint(run)
    if newest is not None and is_done(newest, job):
        return outcome_of(run, newest, job, already_finished=True)
    check_compiler(job, use_gpu)
    first = FirstWeights.of(job, len(data.dataset.samples.classes)) if newest is None else None
    write_records(run, job, data.summary(), write_split_csv(data.split_rows()))
    run.write_status(Status(state="starting", submission=submission, epochs=job.training.epochs))
    try:
        with ray_session(job.cluster), ProgressView(run, data) as view:
            view.show_stages(job, len(data.dataset.samples.classes))
            train, val = data.split("train"), data.split("val")
            task = WorkerTask(
                job=job,
                run_uri=run.uri,
                train=train,
                val=val,
                images=NodeImages.of(job.data, train, val),
                plan=plan_when_there(job.cluster, view.say),
                submission=submission,
                driver=ProcessIdentity.current(),
                first=None if first is None else ray.put(first),
            )
            _train_until_done(run, task, view, 0 if newest is None else newest.step)
        finished = newest_checkpoint(run)
        if finished is None:
            raise RunError(f"{run.uri} has no whole checkpoint after training; see its logs/")
        outcome = outcome_of(run, finished, job, already_finished=False)
        run.write_result(outcome.to_json())
    except BaseException as error:
        write_end(run, submission, error)
        raise
    write_end(run, submission, None)
    return outcome


def _train_until_done(run: RunDirectory, task: WorkerTask, view: ProgressView, reached: int) -> None:
    """Worker groups one after the other, until one ends well or too many fail without a checkpoint beyond `reached`."""
    most = task.job.cluster.max_failures
    failures, full_since = 0, None
    while True:
        wait_for_room(task.plan, task.job.cluster, view.say)
        began = time.monotonic()
        failure = run_attempt(task, view.refresh)
        if failure is None:
            return
        if found_no_room(failure):
            # What there is may be in use by others: that ends, and is no failure.
            full_since = full_since or began
            left = task.job.cluster.wait_for_nodes_s - (time.monotonic() - full_since)
            if left <= 0:
                raise ResourceError(
                    f"no room for {task.plan.num_workers} workers with {task.plan.resources_per_worker} each came free "
                    f"within cluster.wait_for_nodes_s={task.job.cluster.wait_for_nodes_s:g}; end other jobs, use fewer "
                    "or smaller workers, or wait for longer"
                ) from failure
            view.say(f"no room for {task.plan.num_workers} workers yet; waiting for {left:.0f} s at most")
            continue
        full_since = None
        causes = causes_of(failure)
        too_large = next((cause for cause in causes if isinstance(cause, MicrobatchTooLargeError)), None)
        if too_large is not None:
            # Another attempt with the same size would meet it again; one with less makes progress, so it is no failure.
            size = halved(too_large.microbatch_size, task.job.training.global_batch_size)
            view.say(f"{too_large}: starting again from the last checkpoint with {size}")
            task = replace(task, most_per_microbatch=size)
            continue
        for cause in causes:
            if isinstance(cause, CERTAIN):
                raise cause from failure
        newest = newest_checkpoint(run)
        before, reached = reached, 0 if newest is None else newest.step
        failures = 1 if reached > before else failures + 1
        if failures > most:
            raise JobFailedError(
                f"workers failed {failures} times without a new checkpoint (cluster.max_failures={most}); the last "
                f"failure:\n{first_line(causes[0])}"
            ) from failure
        view.say(f"a worker failed ({first_line(causes[0])}); restarting from step {reached}")


def _say(text: str) -> None:
    Console(highlight=False).print(text, markup=False, soft_wrap=True)
