"""What stops a start, found before torch, Ray or DALI is imported: a wrong path, a run in use, a full disk.

The start itself looks again: between the two others may have changed what was found.
"""

from pathlib import Path

from cluster.session.resources import local_resources, plan_workers
from cluster.storage.lease import check_not_held_here
from cluster.storage.room import bytes_below, check_room
from cluster.storage.store import Store
from ray_jobs.data.places import check_places
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.job.folds import fold_jobs
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lifecycle import is_done
from ray_jobs.terminal.watcher import note
from ray_jobs.training.teacher_run import TeacherRun
from resnet_dist.checkpoint.manifest import FOLDER, stored_steps
from resnet_dist.checkpoint.size import checkpoint_bytes
from resnet_dist.errors import RunError
from resnet_dist.model.weights_file import check_weights_file, kind_of_weights

_LEAST_CLASSES = 2
"""How many there are is known once the images are listed."""


def check_training(job: JobConfig, submission: str | None) -> None:
    """Raise what would stop the training of a job, or of its folds. `submission`: as of `run_train`."""
    if job.cluster.address is None:
        plan_workers(job.cluster, *local_resources(job.cluster))
    check_images(job)
    jobs = [job] if job.data.folds is None or job.data.fold is not None else fold_jobs(job)
    runs = [RunDirectory.named(job.storage.root, run_name(each)) for each in jobs]
    runs = [run.at_start(job.storage.outage_s, note) for run in runs]
    if not all(stored_steps(run.store) for run in runs):
        check_weights(job)
    needed = is_written = 0
    for each, run in zip(jobs, runs, strict=True):
        check_not_held(run.store, submission)
        progress = run.progress()
        if progress is None or not is_done(progress, job):
            check_teacher(each)
            needed += max((_kept(job) - 1) * _largest(job) - _stored(run.store), 0)
            is_written = _largest(job)  # of one run at a time
    check_room_for(needed + is_written, job, f"checkpoints of {_largest(job) / 1e6:.0f} MB each")


def check_images(job: JobConfig) -> None:
    """Raise ConfigError or DataError where the job names no images, or they are not there."""
    if not job.data.root:
        raise ConfigError("data.root is not set; name an ImageFolder with --data.root DIR")
    check_places(job.data)


def check_weights(job: JobConfig) -> None:
    """Raise RunError where the weights to begin with are a file or a run that is not there."""
    match kind_of_weights(job.model.weights):
        case "file":
            check_weights_file(Path(job.model.weights))
        case "run":
            try:
                RunDirectory.find(job.model.weights, job.storage.root)
            except RunError as error:
                raise RunError(
                    f"model.weights={job.model.weights}: {error}; it is imagenet, none, a torchvision name such as "
                    "IMAGENET1K_V1, a .safetensors or .pth file, or a finished run"
                ) from error
        case "none" | "torchvision":
            pass


def check_teacher(job: JobConfig) -> None:
    """Raise ConfigError or RunError where the run to learn from is not there, not finished, or does not fit the job.

    Its classes are compared once the images are listed.
    """
    TeacherRun.of(job)


def check_not_held(store: Store, submission: str | None) -> None:
    """Raise RunHeldError where another process of this host holds the run or search."""
    check_not_held_here(store, submission=submission or "")


def check_room_for(needed: int, job: JobConfig, what: str) -> None:
    """Raise StorageError where the disk of the storage root lacks so many bytes for `what`."""
    remedy = (
        f"free space, lower checkpoint.keep_last={job.checkpoint.keep_last}, or choose another --storage.root: the "
        "newest, the best and one that is being written are on the disk together"
    )
    check_room(job.storage.root, needed, what, remedy)


def trial_bytes(job: JobConfig) -> int:
    """Of the checkpoints that one trial keeps."""
    return (_kept(job) - 1) * _largest(job)


def _kept(job: JobConfig) -> int:
    """Checkpoints on the disk at the same time; never more than there are epochs where only those store any."""
    only_epochs = job.checkpoint.every_steps is None and job.checkpoint.every_minutes is None
    most = job.checkpoint.keep_last + 2
    return min(most, -(-job.training.epochs // job.checkpoint.every_epochs)) if only_epochs else most


def _largest(job: JobConfig) -> int:
    return checkpoint_bytes(job.model, job.freezing, job.optimizer, job.training.epochs, _LEAST_CLASSES)


def _stored(store: Store) -> int:
    return 0 if store.local_path is None else bytes_below(store.local_path / FOLDER)
