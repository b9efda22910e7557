"""A job as TOML: read, merged with flags, checked in one place, and printed back complete."""

import math
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml_codec import (
    UNSET,
    Tree,
    check_each,
    checked,
    fields_of,
    merged,
    printed,
    refuse_secrets,
    toml_value,
)
from ray_jobs.job.toml_file import parsed, read_toml


def read_job(path: Path | None, overrides: Tree) -> JobConfig:
    """The job of a TOML file, if any, with `overrides` (nested, by field name) on top. Raises ConfigError."""
    return _of_file(path, _read(path), overrides)


def read_job_and_overrides(
    path: Path | None, flags: Tree, wanted: Callable[[str], bool]
) -> tuple[JobConfig, dict[str, Any]]:
    """For a command on a finished run: the job of file and flags, and what it changes of the run's own job.

    The changes are the fields that are `wanted` (by dotted name), of the flags and below them of the file. Raises
    ConfigError for anything wrong in either, wanted or not.
    """
    tree = _read(path)
    job = _of_file(path, tree, flags)
    overrides = merged(only_fields(tree, wanted), only_fields(flags, wanted))
    check(overrides)
    return job, overrides


def read_changes(path: Path | None, flags: Tree) -> dict[str, Any]:
    """What file and flags change of another job, a run's own. Raises ConfigError for a key or a value that is wrong by
    itself: rules between fields are for the job that comes of both."""
    tree = _read(path)
    changes = merged(tree, flags)
    with _naming(path, tree, flags):
        if problems := list(_unfit(changes, "")):
            raise ConfigError("\n".join(problems))
        check_each(JobConfig, changes)
    return changes


def read_job_text(text: str, source: str) -> JobConfig:
    """The job of a TOML text that came from `source`. Raises ConfigError."""
    return check(parsed(text, source))


def check(tree: Tree) -> JobConfig:
    """The validated job. Raises ConfigError that names every problem by its dotted key."""
    refuse_secrets(tree)
    problems = list(_unfit(tree, ""))
    if problems:
        raise ConfigError("\n".join(problems))
    return checked(JobConfig, tree)


def dotted_fields() -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    """Every field of a job that holds a value: its dotted name ("name", "data.root", ...), its section, itself."""
    return fields_of(JobConfig)


def only_fields(tree: Tree, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """What a tree says of the wanted fields, in the order of the job's fields, without sections that say nothing."""
    found: dict[str, Any] = {}
    for dotted, _, _ in dotted_fields():
        section, _, name = dotted.rpartition(".")
        fields = tree.get(section, {}) if section else tree
        if wanted(dotted) and name in fields:
            found = merged(found, {section: {name: fields[name]}} if section else {name: fields[name]})
    return found


def print_config(job: JobConfig) -> str:
    """The complete job as TOML, every key with its description and default; reading it gives the same job.

    Raises ConfigError for an address with a secret, which a copy of a checked job may have.
    """
    refuse_secrets(job.model_dump())
    lines = ["# A complete job. Keys that are commented out are unset.", "", *printed(job, _comment)]
    return "\n".join(lines) + "\n"


def print_overrides(tree: Tree) -> str:
    """A nested tree of fields as TOML, for `read_job_and_overrides`."""
    top = {name: value for name, value in tree.items() if not isinstance(value, Mapping)}
    lines = [f"{name} = {_plain(value)}" for name, value in top.items()]
    for name, section in tree.items():
        if isinstance(section, Mapping) and section:
            fields = cast("Tree", section).items()
            lines += ["", f"[{name}]", *(f"{field} = {_plain(value)}" for field, value in fields)]
    return "\n".join(lines) + "\n"


def _of_file(path: Path | None, tree: Tree, overrides: Tree) -> JobConfig:
    """The job of a file's tree and what is on top of it."""
    with _naming(path, tree, overrides):
        return check(merged(tree, overrides))


@contextmanager
def _naming(path: Path | None, tree: Tree, overrides: Tree) -> Generator[None]:
    """Within: a problem with a key that the file sets names the file."""
    try:
        yield
    except ConfigError as error:
        lines = (
            f"{path}: {line}" if _sets(tree, line) and not _sets(overrides, line) else line
            for line in str(error).splitlines()
        )
        raise ConfigError("\n".join(lines)) from error


def _sets(tree: Tree, problem: str) -> bool:
    """Whether a tree has the dotted key that the line of a problem begins with."""
    found: Any = tree
    for name in re.split(r"[=:\s]", problem, maxsplit=1)[0].split("."):
        if not isinstance(found, Mapping):
            return True
        below = cast("Tree", found)
        if name not in below:
            return False
        found = below[name]
    return True


def _read(path: Path | None) -> dict[str, Any]:
    return {} if path is None else read_toml(path, "--config")


def _comment(field: FieldInfo) -> str:
    return f"{field.description} Default: {toml_value(field.default) or 'unset'}"


def _plain(value: Any) -> str:
    return toml_value(tuple(value) if isinstance(value, list) else UNSET if value is None else value)  # pyright: ignore[reportUnknownArgumentType]


def _unfit(value: object, key: str) -> Iterator[str]:
    """Problems with values that no field could hold."""
    match value:
        case Mapping():
            for name, below in cast("Mapping[object, object]", value).items():
                yield from _unfit(below, f"{key}.{name}" if key else str(name))
        case list() | tuple():
            for item in cast("Sequence[object]", value):
                yield from _unfit(item, key)
        case float() if not math.isfinite(value):
            yield f"{key}={value}: must be finite"
        case str() if not value.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in value):
            yield f"{key}={value!r}: is not UTF-8; rename it"
        case bool() | int() | float() | str() | None:
            pass
        case _:
            yield f"{key}={value}: a {type(value).__name__}; use text, a number, true, false or a list of them"
