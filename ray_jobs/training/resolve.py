"""A job with everything filled in that depends on the machine or on the run's first start, and what that needs."""

from typing import Any

from cluster.storage.store import absolute_root
from ray_jobs.data.prepare import PreparedData
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.identity import difference, identity
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lifecycle import is_done
from ray_jobs.training.teacher_run import TeacherRun, absolute_teacher
from resnet_dist.compression.config import DistillationConfig
from resnet_dist.errors import RunError
from resnet_dist.model.compiling import require_compiler
from resnet_dist.model.weights_file import kind_of_weights


def resolved_job(job: JobConfig, run: RunDirectory, data: PreparedData, use_gpu: bool) -> JobConfig:
    """The job with nothing left to choose, and with absolute paths: workers run in folders of their own.

    Raises ConfigError when the name belongs to a run of another identity, and at a run's first start for a schedule
    whose end, or whose plateau, it would never reach.
    """
    stored = run.identity()
    if stored is None and job.schedule.epochs is not None and job.schedule.epochs > job.training.epochs:
        raise ConfigError(
            f"schedule.epochs={job.schedule.epochs} is longer than training.epochs={job.training.epochs}, so the rate "
            "would never reach its end; lower it, leave it unset, or train for more epochs"
        )
    if (
        stored is None
        and job.schedule.kind == "cosine_then_plateau"
        and (job.schedule.epochs or job.training.epochs) >= job.training.epochs
    ):
        raise ConfigError(
            f"schedule.kind=cosine_then_plateau with schedule.epochs={job.schedule.epochs or job.training.epochs} "
            f"leaves none of training.epochs={job.training.epochs} for the plateau; set schedule.epochs to those of "
            "the cosine"
        )
    reduction = job.training.reduction or (stored["training.reduction"] if stored else None)
    epochs = job.schedule.epochs or (stored["schedule.epochs"] if stored else None) or job.training.epochs
    training = job.training.model_copy(update={"reduction": reduction or ("overlapped" if use_gpu else "exact")})
    schedule = job.schedule.model_copy(update={"epochs": epochs})
    sections = {
        "name": run_name(job),
        "data": job.data.model_copy(
            update={"root": absolute_root(job.data.root), "cache_dir": _absolute_but_home(job.data.cache_dir)}
        ),
        "storage": job.storage.model_copy(update={"root": absolute_root(job.storage.root)}),
        "model": job.model.model_copy(update={"weights": _absolute_file(job.model.weights)}),
        "distillation": _distillation(job, run, data.dataset.samples.classes, stored or {}),
    }
    resolved = job.model_copy(update={**sections, "training": training, "schedule": schedule})
    if stored is not None:
        changes = difference(stored, identity(resolved, data.dataset.fingerprint))
        if changes:
            raise ConfigError(
                f"{run.uri} is a run of another identity; choose another --name or go back:\n" + "\n".join(changes)
            )
    return resolved


def _distillation(
    job: JobConfig, run: RunDirectory, classes: tuple[str, ...], stored: dict[str, Any]
) -> DistillationConfig:
    """With the teacher's absolute path and digest.

    Raises what `TeacherRun.of` raises, and ConfigError where the teacher has other classes, or another digest than the
    job asks for.
    """
    config = job.distillation
    try:
        teacher = TeacherRun.of(job)
    except RunError:
        kept, progress = stored.get("distillation.teacher_digest"), run.progress()
        if kept is None or progress is None or not is_done(progress, job):
            raise
        digest = config.teacher_digest or kept  # a finished run needs its teacher no more
    else:
        if teacher is None:
            return config
        teacher.check_classes(job, classes)
        if config.teacher_digest not in (None, teacher.digest):
            raise ConfigError(
                f"distillation.teacher_digest={config.teacher_digest} is not that of distillation.teacher="
                f"{config.teacher}, which is {teacher.digest}: it was trained further, or is another run; name the "
                "teacher that is meant, or leave the digest unset"
            )
        digest = teacher.digest
    return config.model_copy(update={"teacher": absolute_teacher(config.teacher), "teacher_digest": digest})


def check_compiler(job: JobConfig, use_gpu: bool) -> None:
    """Raise RunError where `training.compile` needs this machine's C++ compiler and there is none.

    A cluster's workers and GPUs look for theirs themselves.
    """
    if job.training.compile and job.cluster.address is None and not use_gpu:
        require_compiler()


def _absolute_but_home(folder: str) -> str:
    """An absolute path, but one below a home stays as it is: each node has its own homes."""
    return folder if not folder or folder.startswith("~") else absolute_root(folder)


def _absolute_file(weights: str) -> str:
    return absolute_root(weights) if kind_of_weights(weights) == "file" else weights
