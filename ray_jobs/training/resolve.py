"""A job with everything filled in that depends on the machine or on the run's first start, and what that needs."""

from cluster.storage.store import absolute_root
from ray_jobs.data.prepare import PreparedData
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.identity import difference, identity
from ray_jobs.run.directory import RunDirectory
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
    }
    resolved = job.model_copy(update={**sections, "training": training, "schedule": schedule})
    if stored is not None:
        changes = difference(stored, identity(resolved, data.dataset.fingerprint))
        if changes:
            raise ConfigError(
                f"{run.uri} is a run of another identity; choose another --name or go back:\n" + "\n".join(changes)
            )
    return resolved


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
