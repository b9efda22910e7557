"""`resnet-dist train`: prepares a run on the driver, launches its workers, restarts them where they fail."""

import uuid
from contextlib import ExitStack
from dataclasses import replace

import ray

from cluster.lease import check_free
from cluster.processes import ProcessIdentity
from cluster.ray_session import cluster_resources, ray_session
from cluster.resources import local_resources, plan_workers
from data_pipeline.splits import write_split_csv
from ray_jobs.attempt import causes_of, first_line, run_attempt
from ray_jobs.config import JobConfig, run_name
from ray_jobs.errors import CERTAIN, ConfigError, JobFailedError
from ray_jobs.first_weights import FirstWeights
from ray_jobs.node_images import NodeImages
from ray_jobs.outcome import TrainOutcome
from ray_jobs.prepared_data import PreparedData, prepare_data
from ray_jobs.progress import ProgressView
from ray_jobs.rank_training import WorkerTask
from ray_jobs.resolve import resolved_job
from ray_jobs.run_directory import RunDirectory
from ray_jobs.run_lifecycle import is_done, newest_checkpoint, outcome_of, write_end, write_records
from resnet_dist.errors import RunError
from resnet_dist.run_records import Status
from resnet_dist.training.halving import halved
from resnet_dist.training.microbatch_size import MicrobatchTooLargeError


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
    _prepared(job, RunDirectory.named(job.storage.root, run_name(job)), local_only=True)


def _prepared(job: JobConfig, run: RunDirectory, *, local_only: bool = False) -> tuple[JobConfig, PreparedData]:
    """The job with nothing left to choose, and its data."""
    use_gpu = False
    if job.cluster.address is None or not local_only:
        found = local_resources(job.cluster) if job.cluster.address is None else cluster_resources()
        use_gpu = plan_workers(job.cluster, *found).use_gpu
    if not job.data.root:
        raise ConfigError("data.root is not set; name an ImageFolder with --data.root DIR")
    data = prepare_data(job)
    return resolved_job(job, run, data, use_gpu), data


def _train(job: JobConfig, run: RunDirectory, submission: str) -> TrainOutcome:
    """What cannot work is refused before anything is written or an embedded Ray is started."""
    job, data = _prepared(job, run)
    check_free(run.store, submission=submission, ttl_s=job.cluster.lease_ttl_s)
    newest = newest_checkpoint(run)
    if newest is not None and is_done(newest, job):
        return outcome_of(run, newest, job, already_finished=True)
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
                plan=plan_workers(job.cluster, *cluster_resources()),
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
    failures = 0
    while True:
        failure = run_attempt(task, view.refresh)
        if failure is None:
            return
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
