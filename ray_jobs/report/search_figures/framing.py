"""Where an axis of measured values ends, so that a few wild ones do not flatten all others."""

import math
from collections.abc import Iterable
from typing import Any

_FEW = 8
_REACH = 3.0
"""How far beyond the middle four fifths, in their own span, a value still belongs in the frame."""
_FLATTENS = 10.0
"""A value at an end that makes the axis so many times as long as the size of all others squeezes them into a line."""
_LEAST_SIZE = 0.1
"""What values near zero count as: metrics of 0 and 1 belong in one frame."""
_MARGIN = 0.07
"""Share of the span that stays free at both ends, so that no mark is cut."""


def framed(values: Iterable[float]) -> tuple[dict[str, Any], int]:
    """The range as an axis' property, empty for no values, and how many values lie outside of it."""
    known = sorted(value for value in values if math.isfinite(value))
    if not known:
        return {}, 0
    inside = known
    if len(known) >= _FEW:
        low, high = known[len(known) // 10], known[-1 - len(known) // 10]
        reach = (high - low) * _REACH
        inside = [value for value in known if low - reach <= value <= high + reach] if reach else known
    inside = _without_exploded(inside)
    span = inside[-1] - inside[0]
    margin = span * _MARGIN or abs(inside[0]) * _MARGIN or 1.0
    ends = [inside[0] - margin, inside[-1] + margin]
    # The span of numbers near the greatest is itself none.
    return ({"range": ends}, len(known) - len(inside)) if all(map(math.isfinite, ends)) else ({}, 0)


def _without_exploded(values: list[float]) -> list[float]:
    """Sorted values without those at either end that would flatten the others; half of them stay in any case."""
    inside = values
    while len(inside) > max(len(values) / 2, 1):
        rest = min((inside[1:], inside[:-1]), key=_size)
        if inside[-1] - inside[0] <= _FLATTENS * _size(rest):
            break
        inside = rest
    return inside


def _size(values: list[float]) -> float:
    """How far sorted values reach, from each other or from zero."""
    return max(values[-1] - values[0], abs(values[0]), abs(values[-1]), _LEAST_SIZE)


def outside(count: int, not_finite: int = 0) -> str:
    """A caption's words for values beyond the frame and for those that no axis has; empty for none."""
    beyond = f" {count} far off {'lies' if count == 1 else 'lie'} beyond the frame: a double click shows all."
    missing = f" {not_finite} {'is' if not_finite == 1 else 'are'} not finite (nan or inf) and not drawn."
    return (beyond if count else "") + (missing if not_finite else "")
