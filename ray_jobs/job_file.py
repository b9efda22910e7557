"""A job as TOML: read, merged with flags, checked in one place, and printed back complete."""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ray_jobs.config import JobConfig
from ray_jobs.errors import ConfigError

Tree = Mapping[str, Any]


def read_job(path: Path | None, overrides: Tree) -> JobConfig:
    """The job of a TOML file, if any, with `overrides` (nested, by field name) on top. Raises ConfigError."""
    if path is None:
        return check(overrides)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path} cannot be read ({error}); give a TOML file") from error
    return check(merged(_parsed(text, str(path)), overrides))


def read_job_text(text: str, source: str) -> JobConfig:
    """The job of a TOML text that came from `source`. Raises ConfigError."""
    return check(_parsed(text, source))


def check(tree: Tree) -> JobConfig:
    """The validated job. Raises ConfigError that names every problem by its dotted key."""
    try:
        return JobConfig.model_validate(dict(tree))
    except ValidationError as error:
        raise ConfigError("\n".join(_problem(problem) for problem in error.errors())) from None


def dotted_fields(model: type[BaseModel] = JobConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field that holds a value, by its dotted name: ("name", ...), ("data.root", ...), ..."""
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from dotted_fields(section, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def nearest(key: str, known: list[str]) -> str | None:
    """The known dotted key most like a wrong one: by the whole, else by its last part."""
    key = key.replace("-", "_")
    whole = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if whole:
        return whole[0]
    by_last = {name.rsplit(".", 1)[-1]: name for name in known}
    last = difflib.get_close_matches(key.rsplit(".", 1)[-1], list(by_last), n=1, cutoff=0.6)
    return by_last[last[0]] if last else None


def print_config(job: JobConfig) -> str:
    """The complete job as TOML, every key with its description and default; reading it gives the same job."""
    lines = ["# A complete job. Unset keys are commented out.", ""]
    lines += _fields(job)
    for name, field in JobConfig.model_fields.items():
        section = getattr(job, name)
        if isinstance(section, BaseModel):
            lines += ["", *_comment(field.description), f"[{name}]", *_fields(section)]
    return "\n".join(lines) + "\n"


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error


def merged(base: Tree, top: Tree) -> dict[str, Any]:
    """Two nested trees as one, `top` winning."""
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = merged(cast("Tree", below), cast("Tree", value)) if both else value
    return merged


def _problem(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"] if not _is_internal(part))
    message = str(problem["msg"]).removeprefix("Value error, ")
    match problem["type"]:
        case "extra_forbidden":
            near = nearest(key, [*JobConfig.model_fields, *(name for name, _ in dotted_fields())])
            return f"{key}: unknown key" + (f"; did you mean {near}?" if near else "")
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
        default = "unset" if field.default is None else _toml(field.default)
        lines += _comment(f"{field.description} Default: {default}")
        lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
    return lines


def _comment(text: str | None) -> list[str]:
    return [f"# {line.strip()}" for line in (text or "").splitlines()]


def _toml(value: object) -> str:
    """A TOML value: the config holds only booleans, numbers, text and tuples of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in cast('tuple[object, ...]', value))}]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, except that TOML also wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
