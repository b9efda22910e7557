"""What a command that works on a finished run takes from it: where it is, its job, and which checkpoint."""

import tomllib
from typing import Any

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check, print_config
from ray_jobs.job.toml_codec import Tree, merged
from ray_jobs.run.directory import RunDirectory
from resnet_dist.checkpoint.reading import Which


def find_run(run: str, overrides: Tree) -> RunDirectory:
    """A RUN argument, a bare name under the storage root of the overrides. Raises RunError where there is none."""
    return RunDirectory.find(run, str(dict(overrides.get("storage", {})).get("root", JobConfig().storage.root)))


def job_of_run(directory: RunDirectory, overrides: Tree) -> JobConfig:
    """The run's own job with overrides, but for where it was trained, which says nothing of where it is used."""
    stored: dict[str, Any] = tomllib.loads(print_config(directory.read_config()))
    stored.pop("cluster", None)
    return check(merged(stored, overrides))


def which_checkpoint(checkpoint: str) -> Which:
    """Best, last, or the number of a step. Raises ConfigError for anything else."""
    match checkpoint:
        case "best" | "last":
            return checkpoint
        case _ if checkpoint.isdecimal():
            return int(checkpoint)
        case _:
            raise ConfigError(f"--checkpoint {checkpoint} is neither best, last nor the number of a step")
