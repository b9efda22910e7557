"""How far another clock is from this one, as NTP finds it: by messages there and back, of which the quickest counts."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exchange:
    """One message there and back; all in seconds."""

    sent: float
    """By this clock."""
    theirs: float
    """What the other clock showed when the message was there."""
    received: float
    """By this clock, not before `sent`."""


@dataclass(frozen=True)
class Skew:
    """The other clock's lead, in seconds; negative where it is behind."""

    offset_s: float
    uncertainty_s: float
    """The true lead is at most this far from `offset_s`: half of the quickest round trip."""

    @property
    def least_s(self) -> float:
        """Seconds that the clocks are certainly apart."""
        return max(abs(self.offset_s) - self.uncertainty_s, 0.0)


def estimate_skew(exchanges: Iterable[Exchange]) -> Skew:
    """The other clock's lead, from at least one exchange.

    Each says that the other clock's reading belongs between `sent` and `received`, and nothing more; the quickest says
    it best, and its middle is the estimate. Raises ValueError without an exchange.
    """
    quickest = min(exchanges, key=lambda each: each.received - each.sent, default=None)
    if quickest is None:
        raise ValueError("no exchange: the skew of a clock needs at least one")
    half = math.fabs(quickest.received - quickest.sent) / 2.0
    return Skew(quickest.theirs - (quickest.sent + half), half)
