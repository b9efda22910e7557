"""A search's file, read and written: its settings, and its space in a table. Torch-free."""

import json
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import NoneType
from typing import Any, cast, get_args

from pydantic import ValidationError

from ray_jobs.errors import ConfigError
from ray_jobs.job.identity import belongs
from ray_jobs.job.toml import UNSET, nearest, toml_value
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.space import Space

Tree = Mapping[str, Any]


def read_search(path: Path | None, overrides: Tree) -> tuple[SearchConfig, Space]:
    """The search of a TOML file, by default the one that ships, with `overrides` on top. Raises ConfigError."""
    if path is None:
        return _checked(files("ray_jobs.search").joinpath("default.toml").read_text("utf-8"), "default.toml", overrides)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--search {path} cannot be read ({error}); give a TOML file") from error
    return _checked(text, str(path), overrides)


def read_search_text(text: str, source: str) -> tuple[SearchConfig, Space]:
    """The search of a TOML text that came from `source`. Raises ConfigError."""
    return _checked(text, source, {})


def print_search(config: SearchConfig, space: Space) -> str:
    """The complete search as TOML; reading it gives the same one."""
    lines = ["# A complete search. Keys that are commented out are unset.", ""]
    for name, field in SearchConfig.model_fields.items():
        value = getattr(config, name)
        lines += [f"# {line.strip()}" for line in (field.description or "").splitlines()]
        lines.append(f"# {name} = unset" if value is None else f"{name} = {toml_value(value)}")
    lines += ["", "[space]"]
    for parameter in space.parameters:
        values = parameter.choices if parameter.kind == "categorical" else (parameter.low, parameter.high)
        when = ", ".join(f"{toml_value(field)} = {_toml(choices)}" for field, choices in parameter.when)
        condition = f", when = {{ {when} }}" if when else ""
        lines.append(f"{toml_value(parameter.field)} = {{ {parameter.kind} = {_toml(values)}{condition} }}")
    return "\n".join(lines) + "\n"


def search_identity(config: SearchConfig, space: Space) -> dict[str, Any]:
    """What makes two starts the same search, by key with plain values: a line for each setting and searched field."""
    found: dict[str, Any] = {
        f"search.{name}": list(value) if isinstance(value := getattr(config, name), tuple) else value  # pyright: ignore[reportUnknownArgumentType]
        for name, field in SearchConfig.model_fields.items()
        if belongs(SearchConfig, field)
    }
    found |= {
        f"space {each['field']}": json.dumps({key: value for key, value in each.items() if key != "field"})
        for each in space.to_json()
    }
    return found


def _toml(values: tuple[Any, ...]) -> str:
    return f"[{', '.join(toml_value(UNSET if value is None else value) for value in values)}]"


def _checked(text: str, source: str, overrides: Tree) -> tuple[SearchConfig, Space]:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error
    table = tree.pop("space", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{source}: space = {table!r} is no table; write [space] and a line for each field")
    config = _config({**tree, **overrides})
    return config, Space.of(cast("dict[str, Any]", table))


def _config(tree: Tree) -> SearchConfig:
    unset = {key: None if value == UNSET and _may_be_unset(key) else value for key, value in tree.items()}
    try:
        return SearchConfig.model_validate_json(json.dumps(unset, default=str), strict=True)
    except ValidationError as error:
        problems: list[str] = []
        for problem in error.errors():
            key = str(problem["loc"][0]) if problem["loc"] else ""
            match problem["type"]:
                case "extra_forbidden":
                    near = nearest(key, list(SearchConfig.model_fields))
                    hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(SearchConfig.model_fields)}."
                    problems.append(f"search.{key}: unknown key; {hint} Searched fields belong into [space]")
                case "value_error":
                    problems.append(str(problem["msg"]).removeprefix("Value error, "))
                case _:
                    message = str(problem["msg"])
                    problems.append(f"search.{key}={problem['input']!r}: {message[:1].lower()}{message[1:]}")
        raise ConfigError("\n".join(problems)) from error


def _may_be_unset(key: str) -> bool:
    """Whether UNSET is None for it, and not a word of its own, a folder's name or a mistake to be told."""
    field = SearchConfig.model_fields.get(key)
    return field is not None and NoneType in get_args(field.annotation) and key != "scheduler"
