"""Finds a finished run, its job and the checkpoint that a command works on."""

import tomllib
from typing import TYPE_CHECKING, Any

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check, print_config
from ray_jobs.job.toml_codec import Tree, merged
from ray_jobs.run.directory import RunDirectory

if TYPE_CHECKING:
    from resnet_dist.checkpoint.reading import Which  # it knows torch, and this is asked before torch is imported


def find_run(run: str, overrides: Tree) -> RunDirectory:
    """The run of a RUN argument; a bare name is looked up under the overrides' storage root. Raises RunError."""
    return RunDirectory.find(run, str(dict(overrides.get("storage", {})).get("root", JobConfig().storage.root)))


def job_of_run(directory: RunDirectory, overrides: Tree) -> JobConfig:
    """The run's own job with overrides, without its `cluster` section: it may be used elsewhere than it was trained."""
    stored: dict[str, Any] = tomllib.loads(print_config(directory.read_config()))
    stored.pop("cluster", None)
    return check(merged(stored, overrides))


def which_checkpoint(checkpoint: str) -> "Which":
    """From the text "best", "last" or the number of a step. Raises ConfigError for anything else."""
    match checkpoint:
        case "best" | "last":
            return checkpoint
        case _ if checkpoint.isdecimal():
            return int(checkpoint)
        case _:
            raise ConfigError(f"--checkpoint {checkpoint} is neither best, last nor the number of a step")
