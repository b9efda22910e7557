"""Environment variables of this process and of the processes it starts, for a while."""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Generator[None]:
    """Within, variables have these values or, with None, are unset."""
    before = {name: os.environ.pop(name, None) for name in variables}
    os.environ.update({name: value for name, value in variables.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def environment_defaults(variables: Mapping[str, str]) -> Generator[None]:
    """Within, variables that are not set have these values."""
    with environment({name: value for name, value in variables.items() if name not in os.environ}):
        yield
