"""Asking an actor: Ray's handles and answers carry no types, which ends here."""

from typing import Any

import ray

Actor = Any
"""A handle of a `Dispatcher` or of `KnownTrials`."""


def ask(reference: Any) -> Any:
    """The answer, once it is there."""
    return ray.get(reference)
