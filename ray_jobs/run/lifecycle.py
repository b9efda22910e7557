"""Where a run stands, how it ends, and its results."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from cluster.errors import RunHeldError, StorageError
from ray_jobs.exit_codes import ExitCode, exit_code_of, sentence_of
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RESULT, RunDirectory
from ray_jobs.run.outcome import BestEpoch, TrainOutcome
from resnet_dist.checkpoint.progress import Progress
from resnet_dist.run_records import Status
from resnet_dist.training.early_stopping import stopping_of

_LOGGER = logging.getLogger(__name__)


def standing(run: RunDirectory, job: JobConfig) -> Progress | None:
    """Where the run stands, None where it has no checkpoint.

    An end is only reported where the weights were verified: nobody would read them after this answer. Where the run is
    to go on, its weights are not read: rank zero verifies them, and where they are damaged it goes on from the
    checkpoint before and says so.
    """
    progress = run.progress()
    if progress is None or not is_done(progress, job):
        return progress
    verified = run.latest()
    return None if verified is None else verified.progress


def is_done(progress: Progress, job: JobConfig) -> bool:
    """Whether all epochs are done, or early stopping, as it is configured now, has ended the run."""
    return progress.epoch >= job.training.epochs or bool(_ended_early(progress, job))


def _ended_early(progress: Progress, job: JobConfig) -> str:
    """What early stopping, as it is configured now, says of a run that it has ended; empty where it has not."""
    stopping = stopping_of(job.training, progress.early_stopping)
    if stopping is None or not stopping.should_stop or progress.step_in_epoch or progress.epoch >= job.training.epochs:
        return ""
    return stopping.reason(progress.epoch)


def write_end(run: RunDirectory, submission: str, error: BaseException | None, ending: str = "") -> None:
    """Write the final status, unless another process holds the run: then the status is its own.

    `ending`: how a run ended that no error ended.
    """
    if isinstance(error, RunHeldError):
        return
    if error is not None:
        run = RunDirectory(run.store.impatient())  # what it waited for may be what failed
    code = ExitCode.DONE if error is None else exit_code_of(error)
    before = run.read_status() or Status(state="starting", submission=submission)
    status = replace(
        before,
        submission=submission,
        state="done" if code is ExitCode.DONE else "stopped" if code.is_stopped else "failed",
        exit_code=int(code),
        eta_s=None,
        message=(ending if error is None else sentence_of(error))[:2000],
    )
    try:
        run.write_status(status)
    except StorageError:
        # Storage may be what failed; the caller gets the first error.
        if error is None:
            raise


def finished_before(
    run: RunDirectory, job: JobConfig, progress: Progress, dataset: dict[str, Any], split_csv: str
) -> TrainOutcome:
    """The results of a run that is found finished. Its records are made anew where one is not as it was sealed, and
    sealed where they never were; result.json is written where it is missing or says something else. What it says of
    metrics that are damaged now stays."""
    if not run.records.are_whole():
        run.write_records(job, dataset, split_csv)
    damaged: list[str] = []
    outcome = outcome_of(run, progress, job, dataset, damaged.append)
    for line in damaged:
        _LOGGER.warning("%s/%s", run.uri, line)
    if not damaged or not run.store.exists(RESULT):
        run.keep_result(outcome.to_json())
    return replace(outcome, already_finished=True)


def outcome_of(
    run: RunDirectory,
    progress: Progress,
    job: JobConfig,
    dataset: Mapping[str, Any],
    log: Callable[[str], None] = _LOGGER.warning,
) -> TrainOutcome:
    """The results of a run whose newest checkpoint records `progress`; `dataset`: what is in its dataset.json.

    `log` hears of metrics that are damaged: weights and results are there without them.
    """
    records = run.metrics(log)
    best, epoch = progress.best, None
    metrics = progress.metrics or {}
    if best is not None:
        metrics = {best.monitor: best.value}  # all that is known of it where its record was lost
        for record in records:
            if record["step"] == best.step and job.checkpoint.monitor in record:
                metrics = {name: value for name, value in record.items() if name.startswith("val/")}
                epoch = int(record["epoch"])
    speeds = sorted(record["perf/images_per_second"] for record in records if "perf/images_per_second" in record)
    return TrainOutcome(
        run=run.uri,
        steps=progress.step,
        epochs=progress.epoch,
        metrics=metrics,
        images_per_second=speeds[len(speeds) // 2] if speeds else None,
        already_finished=False,
        best=None if best is None else BestEpoch(epoch, best.step, best.monitor, best.value),
        ended_early=_ended_early(progress, job),
        splits=dict(dataset["splits"]),
    )
