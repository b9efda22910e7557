"""How an error that names a key of the job says it to a person who gave that key as a flag."""

import re
from collections.abc import Callable, Sequence

_KEY = re.compile(r"(?<![\w./-])(?P<key>[a-z]\w*(?:\.[a-z]\w*)*)(?:\.\d+)?=")
"""Before a value; where one of several values is wrong, with its number."""


def named_as_flags(tokens: Sequence[str]) -> Callable[[str], str]:
    """For messages: optimizer.learning_rate=-1 is --optimizer.learning-rate=-1 if `tokens` have that flag."""
    names = [token[2:].partition("=")[0].replace("-", "_") for token in tokens if token.startswith("--")]

    def flag(found: re.Match[str]) -> str:
        key = found["key"]
        last = key.rpartition(".")[2]  # some commands' own flags set a key of a section
        # A key without a dot is one only at the beginning of a line: within, it could be any word.
        begins = found.start() == 0 or found.string[found.start() - 1] == "\n"
        name = key if key in names and ("." in key or begins) else last if last in names and "." in key else None
        return found[0] if name is None else f"--{name.replace('_', '-')}="

    return lambda text: _KEY.sub(flag, text)
