"""What tasks of Ray computed."""

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayTaskError


def results(references: "Sequence[ray.ObjectRef[Any]]") -> list[Any]:
    """What the tasks returned, in order. Raises a task's own error, without what Ray wraps it in."""
    try:
        return ray.get(list(references))
    except RayTaskError as error:
        raise error.cause from error  # pyright: ignore[reportGeneralTypeIssues]
