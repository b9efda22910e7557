"""The commands that a person is told to type about the data of a job: with every flag that says which data they are."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from ray_jobs.job.config import JobConfig
from ray_jobs.job.verb_fields import HOW_IMAGES_ARE_READ, OF_INSPECTION


def inspect_command(job: JobConfig) -> str:
    """Looks at the data."""
    return shlex.join(["resnet-dist", "data", "inspect", job.data.root, *_flags(job, OF_INSPECTION)])


def split_command(job: JobConfig, radius: int | None = None) -> str:
    """Puts copies on one side; `radius` where a person chose it."""
    data = job.data
    # There a labels file is relative to the working directory.
    labels = ["--labels", str(Path(data.root).expanduser().absolute() / data.labels)] if data.labels else []
    chosen = [] if radius is None else ["--radius", str(radius)]
    flags = [*labels, "--groups", "duplicates", *chosen, *_flags(job, HOW_IMAGES_ARE_READ)]
    return shlex.join(["resnet-dist", "data", "split", data.root, *flags, "--output", "split.csv"])


def predictions_command(job: JobConfig) -> str:
    """Ranks labels by models that were not trained on the images."""
    own = _flags(job, [name for name in OF_INSPECTION if name != "data.folds"])
    train = shlex.join(["resnet-dist", "train", job.data.root, *own, "--data.folds", "5", "--name", "NAME"])
    return f"{train}, then {inspect_command(job)} --predictions NAME"


def _flags(job: JobConfig, names: Iterable[str]) -> list[str]:
    """Those that are set, of fields by their dotted names; the folder is an argument."""
    words: list[str] = []
    defaults = JobConfig()
    for name in sorted(set(names) - {"data.root"}):
        value, default = _value(job, name), _value(defaults, name)
        if value != default:
            values = list(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def _value(job: JobConfig, name: str) -> Any:
    section, _, field = name.rpartition(".")
    return getattr(getattr(job, section) if section else job, field)
