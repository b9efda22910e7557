"""Whether a person watches: a command shows how far its work is, a function that Python calls prints nothing."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

_watched = False


@contextmanager
def watched() -> Generator[None]:
    """Within, work shows its progress and its notes, in all threads of this process."""
    global _watched  # noqa: PLW0603 - like stdout, it is one for the process
    before, _watched = _watched, True
    try:
        yield
    finally:
        _watched = before


def is_watched() -> bool:
    """Whether work shows its progress."""
    return _watched


def note(text: str) -> None:
    """A line on stderr, if someone watches."""
    if _watched:
        sys.stderr.write(f"{text}\n")
