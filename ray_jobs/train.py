"""`resnet-dist train`: prepares a run on the driver, launches its workers, restarts them where they fail."""

import os
import uuid
from contextlib import ExitStack
from dataclasses import replace

import ray

from cluster.errors import ResourceError, RunHeldError, StorageError
from cluster.lease import check_free, read_history
from cluster.processes import ProcessIdentity
from cluster.ray_session import cluster_resources, ray_session
from cluster.resources import local_resources, plan_workers
from data_pipeline.errors import DataError
from data_pipeline.splits import write_split_csv
from ray_jobs.attempt import causes_of, first_line, run_attempt
from ray_jobs.config import JobConfig, run_name
from ray_jobs.errors import ConfigError, ExitCode, JobFailedError, exit_code_of
from ray_jobs.first_weights import FirstWeights
from ray_jobs.identity import difference, identity
from ray_jobs.outcome import TrainOutcome
from ray_jobs.prepared_data import PreparedData, prepare_data, preprocess_of
from ray_jobs.progress import ProgressView
from ray_jobs.run_directory import RunDirectory
from ray_jobs.worker import WorkerTask
from resnet_dist.checkpoint import Checkpoint, latest_verified
from resnet_dist.errors import RunError
from resnet_dist.run_records import Status, read_metrics

_OURS = (ConfigError, ResourceError, DataError, RunError, StorageError)
"""Errors that another attempt would meet again."""


def run_train(job: JobConfig, submission: str | None = None) -> TrainOutcome:
    """Train the job's run from where it stands, or report it as it is when it is finished.

    `submission` names who asks, so that retries of it are known as such; by default each call is one of its own.
    Raises ConfigError, DataError, RunError, StorageError or ResourceError for what another try would not mend,
    JobFailedError when workers failed too often, KeyboardInterrupt when interrupted.
    """
    submission = submission or uuid.uuid4().hex
    run = RunDirectory.named(job.storage.root, run_name(job))
    with ExitStack() as sessions:
        if job.cluster.address is not None:
            sessions.enter_context(ray_session(job.cluster))  # only it knows what there is to train on
        return _train(job, run, submission)


def _train(job: JobConfig, run: RunDirectory, submission: str) -> TrainOutcome:
    """What cannot work is refused before anything is written or an embedded Ray is started."""
    found = local_resources(job.cluster) if job.cluster.address is None else cluster_resources()
    use_gpu = plan_workers(job.cluster, *found).use_gpu
    if not job.data.root:
        raise ConfigError("data.root is not set; name an ImageFolder with --data.root DIR")
    data = prepare_data(job)
    job = _resolved(job, run, data, use_gpu)
    check_free(run.store, submission=submission, ttl_s=job.cluster.lease_ttl_s)
    newest = _newest(run)
    if newest is not None and newest.progress.epoch >= job.training.epochs:
        return _outcome(run, newest, job, already_finished=True)
    first = FirstWeights.of(job, len(data.dataset.samples.classes)) if newest is None else None
    _write_records(run, job, data)
    run.write_status(Status(state="starting", submission=submission, epochs=job.training.epochs))
    try:
        with ray_session(job.cluster), ProgressView(run, data) as view:
            task = WorkerTask(
                job=job,
                run_uri=run.uri,
                train=data.split("train"),
                val=data.split("val"),
                plan=plan_workers(job.cluster, *cluster_resources()),
                submission=submission,
                driver=ProcessIdentity.current(),
                first=None if first is None else ray.put(first),
            )
            _train_until_done(run, task, view, 0 if newest is None else newest.step)
    except BaseException as error:
        _write_end(run, submission, error)
        raise
    finished = _newest(run)
    if finished is None:
        raise RunError(f"{run.uri} has no whole checkpoint after training; see its logs/")
    outcome = _outcome(run, finished, job, already_finished=False)
    run.write_result(vars(outcome))
    _write_end(run, submission, None)
    return outcome


def _resolved(job: JobConfig, run: RunDirectory, data: PreparedData, use_gpu: bool) -> JobConfig:
    """The job with what depends on the machine or on the run's first start filled in.

    Raises ConfigError when the name belongs to a run of another identity.
    """
    stored = run.read_config() if run.exists() else None
    reduction = job.training.reduction or (stored.training.reduction if stored else None)
    epochs = job.schedule.epochs or (stored.schedule.epochs if stored else None) or job.training.epochs
    training = job.training.model_copy(update={"reduction": reduction or ("overlapped" if use_gpu else "exact")})
    schedule = job.schedule.model_copy(update={"epochs": epochs})
    # Workers run in folders of their own.
    sections = {
        "name": run_name(job),
        "data": job.data.model_copy(update={"root": _absolute(job.data.root)}),
        "storage": job.storage.model_copy(update={"root": _absolute(job.storage.root)}),
        "model": job.model.model_copy(update={"weights": _absolute_file(job.model.weights)}),
    }
    resolved = job.model_copy(update={**sections, "training": training, "schedule": schedule})
    if stored is not None:
        fingerprint = str(run.read_dataset().get("fingerprint"))
        changes = difference(identity(stored, fingerprint), identity(resolved, data.dataset.fingerprint))
        if changes:
            raise ConfigError(
                f"{run.uri} is a run of another identity; choose another --name or go back:\n" + "\n".join(changes)
            )
    return resolved


def _absolute(root: str) -> str:
    return root if "://" in root else os.path.abspath(os.path.expanduser(root))  # noqa: PTH100, PTH111 - keeps symlinks


def _absolute_file(weights: str) -> str:
    return _absolute(weights) if weights.endswith((".safetensors", ".pth", ".pt")) else weights


def _write_records(run: RunDirectory, job: JobConfig, data: PreparedData) -> None:
    run.write_dataset(data.summary())
    run.write_split_csv(write_split_csv(data.split_rows()))
    run.write_preprocess(preprocess_of(job))
    run.write_config(job)  # last: with it the run exists


def _train_until_done(run: RunDirectory, task: WorkerTask, view: ProgressView, reached: int) -> None:
    """Worker groups one after the other, until one ends well or too many fail without a checkpoint beyond `reached`."""
    most = task.job.cluster.max_failures
    failures = 0
    while True:
        failure = run_attempt(task, view.refresh)
        if failure is None:
            return
        causes = causes_of(failure)
        for cause in causes:
            if isinstance(cause, _OURS):
                raise cause from failure
        newest = _newest(run)
        before, reached = reached, 0 if newest is None else newest.step
        failures = 1 if reached > before else failures + 1
        if failures > most:
            raise JobFailedError(
                f"workers failed {failures} times without a new checkpoint (cluster.max_failures={most}); the last "
                f"failure:\n{first_line(causes[0])}"
            ) from failure
        view.say(f"a worker failed ({first_line(causes[0])}); restarting from step {reached}")


def _newest(run: RunDirectory) -> Checkpoint | None:
    """The checkpoint that workers would start from; they say why they pass others over."""
    return latest_verified(run.store, read_history(run.store), lambda _: None)


def _write_end(run: RunDirectory, submission: str, error: BaseException | None) -> None:
    """The final status. A process that was refused the run leaves the holder's status alone."""
    if isinstance(error, RunHeldError):
        return
    code = ExitCode.DONE if error is None else exit_code_of(error)
    before = run.read_status() or Status(state="starting", submission=submission)
    status = replace(
        before,
        submission=submission,
        state="done" if code is ExitCode.DONE else "stopped" if code is ExitCode.INTERRUPTED else "failed",
        exit_code=int(code),
        eta_s=None,
        message="" if error is None else str(error)[:2000],
    )
    try:
        run.write_status(status)
    except StorageError:
        # Storage may be what failed; the error itself is what the caller hears.
        if error is None:
            raise


def _outcome(run: RunDirectory, newest: Checkpoint, job: JobConfig, *, already_finished: bool) -> TrainOutcome:
    records = read_metrics(run.store, read_history(run.store))
    best = newest.progress.best
    metrics = newest.progress.metrics or {}
    if best is not None:
        for record in records:
            if record["step"] == best.step and job.checkpoint.monitor in record:
                metrics = {name: value for name, value in record.items() if name.startswith("val/")}
    speeds = sorted(record["perf/images_per_second"] for record in records if "perf/images_per_second" in record)
    return TrainOutcome(
        run=run.uri,
        steps=newest.step,
        epochs=newest.progress.epoch,
        metrics=metrics,
        images_per_second=speeds[len(speeds) // 2] if speeds else None,
        already_finished=already_finished,
    )
