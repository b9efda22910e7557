"""What stops a search, found before torch, Ray or DALI is imported. The start itself looks again."""

from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig, run_name
from ray_jobs.run.argument import hint_at_folder, names_a_place
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.records import SearchDirectory
from ray_jobs.terminal.watcher import note
from ray_jobs.training.early_checks import (
    check_images,
    check_not_held,
    check_room_for,
    check_teacher,
    check_weights,
    trial_bytes,
)


def check_search(job: JobConfig, config: SearchConfig, warm_start: str | None, submission: str | None) -> None:
    """Raise what would stop a search. `warm_start` and `submission`: as of `run_tune`."""
    check_images(job)
    check_weights(job)
    check_teacher(job)
    directory = SearchDirectory.named(job.storage.root, run_name(job)).at_start(job.storage.outage_s, note)
    if warm_start is not None:
        earlier_search(warm_start, job.storage.root)
    check_not_held(directory.store, submission)
    if not directory.read_trials():
        check_room_for(kept_trials(job, config) * trial_bytes(job), job, "checkpoints of the trials that keep theirs")


def kept_trials(job: JobConfig, config: SearchConfig) -> int:
    """Trials that keep their checkpoints at the end, at the least: all, or the default and the best."""
    return config.trials if job.checkpoint.keep_losers else min(2, config.trials)


def earlier_search(name: str, storage_root: str) -> SearchDirectory:
    """A --warm-start argument. Raises ConfigError where there is no search with a trial that is over."""
    is_place = names_a_place(name)
    place = SearchDirectory(Store.open(name)) if is_place else SearchDirectory.named(storage_root, name)
    if not any(record.is_over for record in place.read_trials()):
        hint = "" if is_place else hint_at_folder(name)
        raise ConfigError(f"--warm-start {name}: {place.uri} has no trial that is over; name an earlier search{hint}")
    return place
