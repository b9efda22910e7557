"""A team's TOML file, read and written. Torch-free."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from cluster.kube.queues.team import Amounts, Members, Names, Quota, Storage, Team
from ray_jobs.errors import ConfigError
from ray_jobs.job.toml import UNSET, nearest, toml_value

_LIMITS = {name for name, field in Quota.model_fields.items() if field.annotation is Amounts}


def read_team(path: Path, name: str) -> Team:
    """The team of a TOML file, which must be that of `name`. Raises ConfigError for every problem by its key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--config {path} cannot be read ({error}); `resnet-dist queue create {name} --print-team` prints one"
        ) from error
    team = read_team_text(text, str(path))
    if team.team.name != name:
        raise ConfigError(f"{path}: team.name={team.team.name!r} is not {name!r}; give the file of that team")
    return team


def read_team_text(text: str, source: str) -> Team:
    """The team of a TOML text that came from `source`. Raises ConfigError."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error
    try:
        # As JSON: strict about types (no "3" or true for 3), and still a list for a tuple.
        return Team.model_validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError("\n".join(_problem(each) for each in error.errors())) from error


def example_team(name: str) -> Team:
    """A team as it might be, to begin with. Raises ConfigError for a name that no team can have."""
    try:
        names = Names(name=name)
    except ValidationError as error:
        (problem,) = error.errors()
        raise ConfigError(f"team {name!r}: {str(problem['msg']).removeprefix('Value error, ')}") from error
    return Team(
        team=names,
        members=Members(groups=(name,)),
        quota=(
            Quota(flavor="cpu", cpus=32, memory_gib=128),
            Quota(flavor="a100", gpus=4, cpus=32, memory_gib=256, borrow=Amounts(gpus=4)),
        ),
        storage=Storage(secret="resnet-dist-storage"),  # noqa: S106 - its name
    )


def print_team(team: Team) -> str:
    """The complete team as TOML, every key with its description and default; reading it gives the same team."""
    lines = ["# A complete team. Keys that are commented out are unset."]
    for name, field in Team.model_fields.items():
        value = getattr(team, name)
        many = isinstance(value, tuple)
        for number, section in enumerate(cast("tuple[BaseModel, ...]", value) if many else (value,)):
            # What is said once need not be said for every entry.
            told = number == 0
            lines += ["", *(_comment(field.description) if told else ()), f"[[{name}]]" if many else f"[{name}]"]
            lines += _fields(section, told=told)
    return "\n".join(lines) + "\n"


def _fields(section: BaseModel, *, told: bool) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if told:
            default = "" if field.is_required() else f" Default: {_toml(field.default) or 'unset'}."
            yield from _comment(f"{field.description}{_choices(field.annotation)}{default}")
        if value is None and not field.is_required() and field.default is not None:
            yield f"{name} = {toml_value(UNSET)}"
        elif text := _toml(value):
            yield f"{name} = {text}"
        else:
            yield f"# {name} = unset"


def _toml(value: object) -> str:
    """A TOML value; empty for what is unset."""
    if isinstance(value, Amounts):
        said = {name: amount for name in Amounts.model_fields if (amount := getattr(value, name)) is not None}
        return f"{{ {', '.join(f'{name} = {amount}' for name, amount in said.items())} }}" if said else ""
    return "" if value is None else toml_value(value)


def _choices(kind: Any) -> str:
    words = [each for each in get_args(kind) if isinstance(each, str)]
    return f" One of {', '.join(words)}." if words else ""


def _comment(text: str | None) -> list[str]:
    return [f"# {line.strip()}" for line in (text or "").splitlines()]


def _problem(problem: Any) -> str:
    location = cast("Sequence[str | int]", problem["loc"])
    # Of a list, entries are counted as a person does; lists of words need no number.
    key = ".".join(f"{part}" for part in location if isinstance(part, str))
    entry = next((f" ([[{location[0]}]] number {part + 1})" for part in location if isinstance(part, int)), "")
    entry = entry if location and location[0] == "quota" else ""
    message = str(problem["msg"]).removeprefix("Value error, ")
    message = f"{message[:1].lower()}{message[1:]}"
    match problem["type"]:
        case "extra_forbidden":
            near = nearest(key, list(_known()))
            inside = [name for name in _known() if name.rpartition(".")[0] == key.rpartition(".")[0]]
            hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(inside)}"
            return f"{key}: unknown key{entry}; {hint}"
        case "missing":
            return f"{key}: is missing{entry}; `resnet-dist queue create TEAM --print-team` prints a complete file"
        case "value_error" if isinstance(problem["input"], Mapping):
            return message
        case _:
            shown = repr(problem["input"])
            return f"{key}={shown if len(shown) <= 80 else shown[:77] + '...'}: {message}{entry}"


def _known() -> Iterator[str]:
    """Every key that a team's file may have, dotted, its sections first."""
    yield from Team.model_fields
    for name, section in Team.model_fields.items():
        model = section.annotation
        fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else Quota.model_fields
        for field in fields:
            yield f"{name}.{field}"
            if field in _LIMITS:
                yield from (f"{name}.{field}.{each}" for each in Amounts.model_fields)
