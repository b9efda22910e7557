"""Numbers in JSON, which has no NaN or infinity: such are stored as the texts "nan", "inf" and "-inf"."""

import math
from collections.abc import Mapping


def plain_number(value: float) -> float | str:
    """A number for JSON: itself, or "nan", "inf" or "-inf", of which `float` makes the number again."""
    return value if math.isfinite(value) else str(float(value))


def plain_numbers(values: Mapping[str, float]) -> dict[str, float | str]:
    """A number for JSON of each."""
    return {name: plain_number(value) for name, value in values.items()}
