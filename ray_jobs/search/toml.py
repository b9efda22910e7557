"""A search's file, read and written: its settings, and its space in a table. Torch-free."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from ray_jobs.errors import ConfigError
from ray_jobs.job.identity import belongs
from ray_jobs.job.toml_codec import Tree, checked, printed, refuse_secrets, toml_value
from ray_jobs.job.toml_file import parsed, read_toml
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.space import Space


def read_search(path: Path | None, overrides: Tree) -> tuple[SearchConfig, Space]:
    """The search of a TOML file, by default the one that ships, with `overrides` on top. Raises ConfigError."""
    if path is not None:
        return _checked(read_toml(path, "--search"), str(path), overrides)
    text = files("ray_jobs.search").joinpath("default.toml").read_text("utf-8")
    return _checked(parsed(text, "default.toml"), "default.toml", overrides)


def read_search_text(text: str, source: str) -> tuple[SearchConfig, Space]:
    """The search of a TOML text that came from `source`. Raises ConfigError."""
    return _checked(parsed(text, source), source, {})


def print_search(config: SearchConfig, space: Space) -> str:
    """The complete search as TOML; reading it gives the same one. Raises ConfigError for an address with a secret."""
    refuse_secrets({"space": space.to_json()})
    settings = printed(config, lambda field: field.description or "")
    lines = ["# A complete search. Keys that are commented out are unset.", "", *settings, "", "[space]"]
    for parameter in space.parameters:
        values = parameter.choices if parameter.kind == "categorical" else (parameter.low, parameter.high)
        when = ", ".join(f"{toml_value(field)} = {toml_value(choices)}" for field, choices in parameter.when)
        condition = f", when = {{ {when} }}" if when else ""
        lines.append(f"{toml_value(parameter.field)} = {{ {parameter.kind} = {toml_value(values)}{condition} }}")
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


def _checked(tree: dict[str, Any], source: str, overrides: Tree) -> tuple[SearchConfig, Space]:
    table = tree.pop("space", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{source}: space = {table!r} is no table; write [space] and a line for each field")
    unknown = ". Searched fields belong into [space]"
    config = checked(SearchConfig, {**tree, **overrides}, prefix="search.", unknown=unknown)
    return config, Space.of(cast("dict[str, Any]", table))
