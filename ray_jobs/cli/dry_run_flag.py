"""--dry-run and --dry-run=server: one option with and without a value, which the parser of flags knows no type for."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

_WRITTEN = "--dry-run=server"
_TAKEN = "--dry-run-server"

DryRun = Annotated[bool, Parameter(negative=(), show_default=False)]
"""The type of a command's `dry_run`."""
DryRunServer = Annotated[bool, Parameter(name=(_WRITTEN, _TAKEN), negative=(), show_default=False)]
"""The type of a command's `dry_run_server`."""


def with_plain_flags(tokens: Sequence[str]) -> list[str]:
    """A command line with the option's value made a flag of its own. What follows a "--" is no option and stays."""
    end = tokens.index("--") if "--" in tokens else len(tokens)
    return [_TAKEN if token == _WRITTEN else token for token in tokens[:end]] + list(tokens[end:])
