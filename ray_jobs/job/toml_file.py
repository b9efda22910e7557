"""The table in a TOML file that anybody may have written: read within bounds, or a ConfigError."""

import re
import tomllib
from pathlib import Path
from typing import Any, cast

from ray_jobs.errors import ConfigError
from ray_jobs.job.toml_codec import refuse_secrets

MOST_BYTES = 2**20
"""Of a file: a complete job has less than a fiftieth."""
MOST_DEPTH = 32
"""Of tables and lists in each other, and of the parts of a key."""

# The parser's memory grows with the square of a key's parts. A part begins where no other one goes on, and is never
# given back, so that the search takes one look at each character.
_PART = r"""(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?:{_PART}[ \t]*+\.[ \t]*+){{{MOST_DEPTH}}}{_PART}")
_INTEGERS = range(-(2**63), 2**63)


def read_toml(path: Path, flag: str, remedy: str = "give a TOML file") -> dict[str, Any]:
    """The table in the file that `flag` names. Raises ConfigError with the remedy where it cannot be read."""
    try:
        # What is given may be a pipe, such as a shell's <(...), or never end.
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ConfigError(f"{flag} {path} has more than the {MOST_BYTES} bytes that are read; {remedy}")
        text = data.decode("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{flag} {path} cannot be read ({error}); {remedy}") from error
    return parsed(text, str(path))


def parsed(text: str, source: str) -> dict[str, Any]:
    """The table of a TOML text that came from `source`. Raises ConfigError."""
    deep = f"{source} is nested too deeply; tables, lists and keys have at most {MOST_DEPTH} levels"
    if _LONG_KEY.search(text):
        raise ConfigError(deep)
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError(deep) from error
    except ValueError as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error
    _refuse_unbounded(table, source, deep)
    refuse_secrets(table)
    return table


def _refuse_unbounded(table: dict[str, Any], source: str, deep: str) -> None:
    """Refuse what nests too deeply, and numbers that TOML does not have. It walks without recursion."""
    waiting: list[tuple[int, str, object]] = [(0, "", table)]
    while waiting:
        depth, key, value = waiting.pop()
        if depth > MOST_DEPTH:
            raise ConfigError(deep)
        match value:
            case dict():
                entries = cast("dict[str, object]", value).items()
                waiting += [(depth + 1, f"{key}.{name}" if key else name, below) for name, below in entries]
            case list():
                waiting += [(depth + 1, key, below) for below in cast("list[object]", value)]
            case int() if value not in _INTEGERS:
                raise ConfigError(
                    f"{source}: {key} is a whole number beyond 64 bits, which TOML does not have; lower it"
                )
            case _:
                pass
