"""JSON as records hold it. It has no NaN or infinity: such numbers are stored as the texts "nan", "inf" and "-inf"."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from resnet_dist.errors import RunError


def json_object(data: bytes, place: str, remedy: str) -> dict[str, Any]:
    """The object that a file holds. Raises RunError, which names its `place` and the `remedy`, for anything else."""
    try:
        return parsed_object(data)
    except ValueError as error:
        raise RunError(f"{place} cannot be read: {error}; {remedy}") from error


def parsed_object(data: bytes) -> dict[str, Any]:
    """The object that a file holds. Raises ValueError, with the reason, for anything else."""
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:  # no JSON, no UTF-8, or a whole number of thousands of digits
        raise ValueError(f"it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    return cast("dict[str, Any]", value)


def plain_number(value: float) -> float | str:
    """A number for JSON: itself, or "nan", "inf" or "-inf", which `float` reads back."""
    return value if math.isfinite(value) else str(float(value))


def plain_numbers(values: Mapping[str, float]) -> dict[str, float | str]:
    """A number for JSON of each."""
    return {name: plain_number(value) for name, value in values.items()}
