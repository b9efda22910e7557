"""How two job files differ, for a person who meant them to be the same."""

import tomllib
from collections.abc import Iterator
from typing import Any, cast

_MOST = 6
_WHERE = ("cluster.", "tracker.")
"""Sections that never make two jobs different ones."""


def differences(stored: str, requested: str) -> list[str]:
    """A line for each key with another value, "optimizer.learning_rate: 0.01 -> 0.05"; a few of many.

    A text that is no TOML is taken for an empty one.
    """
    before, after = dict(_flat(_parsed(stored))), dict(_flat(_parsed(requested)))
    changed = [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, "absent") != after.get(key, "absent") and not key.startswith(_WHERE)
    ]
    more = len(changed) - _MOST
    return changed if more <= 0 else [*changed[:_MOST], f"and {more} more"]


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
