"""JSON as records hold it. It has no NaN or infinity: such numbers are stored as the texts "nan", "inf" and "-inf"."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from resnet_dist.errors import RunError


def json_object(data: bytes, place: str, remedy: str) -> dict[str, Any]:
    """The object that a file holds. Raises RunError, which names its `place` and the `remedy`, for anything else."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise RunError(f"{place} is not JSON ({error}); {remedy}") from error
    if not isinstance(value, dict):
        raise RunError(f"{place} holds no object; {remedy}")
    return cast("dict[str, Any]", value)


def plain_number(value: float) -> float | str:
    """A number for JSON: itself, or "nan", "inf" or "-inf", which `float` reads back."""
    return value if math.isfinite(value) else str(float(value))


def plain_numbers(values: Mapping[str, float]) -> dict[str, float | str]:
    """A number for JSON of each."""
    return {name: plain_number(value) for name, value in values.items()}
