"""Secrets in a job's addresses, or on a command line: refused before anything of them is stored or printed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from cluster.storage.credentials import IN_A_PATH, REMEDY, holds_secret

_REMEDIES = {
    "tracker.uri": "give user and password by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead, or the "
    "whole address by MLFLOW_TRACKING_URI",
    "cluster.address": "give the token by RAY_AUTH_TOKEN instead, or its file by RAY_AUTH_TOKEN_PATH",
}
_FLAG = re.compile(r"--(?:no-)?([a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)*)", re.IGNORECASE)


def secrets_in_tree(tree: Mapping[str, Any]) -> list[str]:
    """A line for each value of a nested table that holds a secret, by its dotted key; no line repeats any of it."""
    return list(dict.fromkeys(_problem(key) for key in _keys_of_secrets(tree, "")))


def secrets_in_words(words: Sequence[str]) -> list[str]:
    """A line for each word of a command line that holds a secret, by its flag or its place."""
    lines: list[str] = []
    for at, word in enumerate(words):
        if holds_secret(word):
            flag = _FLAG.fullmatch(word.partition("=")[0]) or _FLAG.fullmatch(words[at - 1] if at else "")
            lines.append(_problem(flag[1].replace("-", "_")) if flag else _problem(f"word {at + 1} of the command"))
    return lines


def _keys_of_secrets(value: object, key: str) -> Iterator[str]:
    match value:
        case str() if holds_secret(value):
            yield key
        case Mapping():
            for name, below in cast("Mapping[object, object]", value).items():
                # A key may be anything, too, and is then not repeated.
                inner = f"a key of {key or 'the file'}" if holds_secret(str(name)) else f"{key}.{name}" if key else name
                if holds_secret(str(name)):
                    yield str(inner)
                yield from _keys_of_secrets(below, str(inner))
        case list() | tuple():
            for each in cast("Sequence[object]", value):
                yield from _keys_of_secrets(each, key)
        case _:
            pass


def _problem(key: str) -> str:
    remedy = _REMEDIES.get(key, REMEDY)
    return f"{key} holds a secret, and addresses are stored and printed; {remedy} ({IN_A_PATH})"
