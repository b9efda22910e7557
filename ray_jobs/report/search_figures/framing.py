"""Where an axis of measured values ends, so that a few wild ones do not flatten all others."""

import math
from collections.abc import Iterable
from typing import Any

_FEW = 8
_REACH = 3.0
"""How far beyond the middle four fifths, in their own span, a value still belongs in the frame."""
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
    span = inside[-1] - inside[0]
    margin = span * _MARGIN or abs(inside[0]) * _MARGIN or 1.0
    ends = [inside[0] - margin, inside[-1] + margin]
    # The span of numbers near the greatest is itself none.
    return ({"range": ends}, len(known) - len(inside)) if all(map(math.isfinite, ends)) else ({}, 0)


def outside(count: int) -> str:
    """A caption's words for values beyond the frame; empty for none."""
    return f" {count} far off lie beyond the frame: a double click shows them." if count else ""
