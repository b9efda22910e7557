"""A job as TOML: read, merged with flags, checked in one place, and printed back complete."""

import difflib
import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ray_jobs.errors import ConfigError
from ray_jobs.job.config import JobConfig

Tree = Mapping[str, Any]

UNSET = "none"
"""What unsets a field that may be unset, where its default is something else."""


def read_job(path: Path | None, overrides: Tree) -> JobConfig:
    """The job of a TOML file, if any, with `overrides` (nested, by field name) on top. Raises ConfigError."""
    if path is None:
        return check(overrides)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} cannot be read ({error}); give a TOML file") from error
    return check(merged(_parsed(text, str(path)), overrides))


def read_overrides(path: Path | None, flags: Tree, wanted: Callable[[str], bool]) -> Tree:
    """What a command on a finished run changes of the run's own job: its flags, and below them what a job's file says
    of the fields that are `wanted` (by dotted name). Raises ConfigError for anything wrong in either."""
    said: dict[str, Any] = {}
    if path is not None:
        read_job(path, flags)
        tree = _parsed(path.read_text(encoding="utf-8"), str(path))
        for name, _, _ in dotted_fields():
            section, _, field = name.rpartition(".")
            below = tree.get(section, {}) if section else tree
            if wanted(name) and field in below:
                said = merged(said, {section: {field: below[field]}} if section else {field: below[field]})
    overrides = merged(said, flags)
    check(overrides)
    return overrides


def read_job_text(text: str, source: str) -> JobConfig:
    """The job of a TOML text that came from `source`. Raises ConfigError."""
    return check(_parsed(text, source))


def check(tree: Tree) -> JobConfig:
    """The validated job. Raises ConfigError that names every problem by its dotted key."""
    problems = list(_unfit(tree, ""))
    if not problems:
        try:
            # As JSON: strict about types (no "3" or true for 3), and still a list for a tuple.
            return JobConfig.model_validate_json(json.dumps(_unset(tree, JobConfig)), strict=True)
        except ValidationError as error:
            problems = [_problem(problem) for problem in error.errors()]
    raise ConfigError("\n".join(problems))


def dotted_fields(
    model: type[BaseModel] = JobConfig, prefix: str = ""
) -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    """Every field that holds a value: its dotted name ("name", "data.root", ...), its section, itself."""
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from dotted_fields(section, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", model, field


def nearest(key: str, known: Sequence[str]) -> tuple[str, ...]:
    """The known dotted keys most like a wrong one: in its own section, else anywhere; none where none is alike."""
    key = key.replace("-", "_")
    section, _, last = key.rpartition(".")
    inside = [name for name in known if section and name.startswith(f"{section}.")]
    for candidates in (inside, known):
        lasts = list(dict.fromkeys(name.rpartition(".")[2] for name in candidates))
        alike = difflib.get_close_matches(last, lasts, n=1) or [name for name in lasts if _initials(name) == last]
        if alike:
            return tuple(name for name in candidates if name.rpartition(".")[2] == alike[0])
    return () if inside else tuple(difflib.get_close_matches(key, known, n=1))


def _unset(tree: Tree, model: type[BaseModel]) -> dict[str, Any]:
    """The tree with None for UNSET wherever a number or a switch may be unset: TOML itself has no None."""
    result = dict(tree)
    for name, field in model.model_fields.items():
        kind, value = field.annotation, result.get(name)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if isinstance(value, Mapping):
                result[name] = _unset(cast("Tree", value), kind)
        elif value == UNSET and NoneType in get_args(kind) and str not in get_args(kind):
            result[name] = None
    return result


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))


def print_config(job: JobConfig) -> str:
    """The complete job as TOML, every key with its description and default; reading it gives the same job."""
    lines = ["# A complete job. Keys that are commented out are unset.", ""]
    lines += _fields(job)
    for name, field in JobConfig.model_fields.items():
        section = getattr(job, name)
        if isinstance(section, BaseModel):
            lines += ["", *_comment(field.description), f"[{name}]", *_fields(section)]
    return "\n".join(lines) + "\n"


def print_overrides(tree: Tree) -> str:
    """A nested tree of fields as TOML, for `read_overrides`."""
    top = {name: value for name, value in tree.items() if not isinstance(value, Mapping)}
    lines = [f"{name} = {toml_value(_plain(value))}" for name, value in top.items()]
    for name, section in tree.items():
        if isinstance(section, Mapping) and section:
            fields = cast("Tree", section).items()
            lines += ["", f"[{name}]", *(f"{field} = {toml_value(_plain(value))}" for field, value in fields)]
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else UNSET if value is None else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error


def merged(base: Tree, top: Tree) -> dict[str, Any]:
    """Two nested trees as one, `top` winning."""
    both = dict(base)
    for key, value in top.items():
        below = both.get(key)
        nested = isinstance(value, Mapping) and isinstance(below, Mapping)
        both[key] = merged(cast("Tree", below), cast("Tree", value)) if nested else value
    return both


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


def _problem(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"] if not _is_internal(part))
    message = str(problem["msg"]).removeprefix("Value error, ")
    match problem["type"]:
        case "extra_forbidden":
            known = [name for name, _, _ in dotted_fields()]
            sections = [name for name in JobConfig.model_fields if name not in known]
            near = nearest(key, [*known, *sections])
            below = [name for name in known if name.startswith(f"{key.rpartition('.')[0]}.")]
            hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(below or sections)}"
            return f"{key}: unknown key; {hint}"
        case "value_error":
            return message
        case _:
            return f"{key}={_shown(problem['input'])}: {message[:1].lower()}{message[1:]}"


def _is_internal(part: object) -> bool:
    """pydantic puts the tried type of a union, such as "constrained-int" or "literal['a','b']", into the path."""
    text = str(part)
    return (isinstance(part, str) and not text.replace("_", "").isalnum()) or text in {"bool", "int", "float", "str"}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _fields(section: BaseModel) -> list[str]:
    lines: list[str] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            continue
        default = "unset" if field.default is None else toml_value(field.default)
        lines += _comment(f"{field.description} Default: {default}")
        if value is None and field.default is None:
            lines.append(f"# {name} = unset")
        else:
            lines.append(f"{name} = {toml_value(UNSET if value is None else value)}")
    return lines


def _comment(text: str | None) -> list[str]:
    return [f"# {line.strip()}" for line in (text or "").splitlines()]


def toml_value(value: object) -> str:
    """A TOML value: the config holds only booleans, numbers, text and tuples of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(toml_value(item) for item in cast('tuple[object, ...]', value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, except that TOML also wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
