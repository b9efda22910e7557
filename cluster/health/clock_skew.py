"""How far another clock is from this one, as NTP finds it: messages go there and back, and the quickest one counts."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.health.preflight import Check

_WARN_SKEW_S = 1.0
"""From here on, log lines and the times in a search's records no longer show what came first."""
_WRONG_SKEW_S = 300.0
"""Object stores refuse requests that are signed 15 minutes off; Kerberos and many tokens fail at 5. A lease bears any
skew: it goes by the taker's own steady clock."""


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

    An exchange only shows that the other clock's reading belongs between `sent` and `received`. The quickest one bounds
    it best, and its middle is the estimate. Raises ValueError without an exchange.
    """
    quickest = min(exchanges, key=lambda each: each.received - each.sent, default=None)
    if quickest is None:
        raise ValueError("no exchange: the skew of a clock needs at least one")
    half = math.fabs(quickest.received - quickest.sent) / 2.0
    return Skew(quickest.theirs - (quickest.sent + half), half)


def check_clock(skew: Skew) -> Check:
    """A node's clock against this machine's. A difference that the messages' delay may explain is no fault."""
    found = f"{skew.offset_s:+.3f} s against this machine, to within {skew.uncertainty_s:.3f} s"
    if skew.least_s < _WARN_SKEW_S:
        return Check("clock", "ok", found)
    status = "error" if skew.least_s >= _WRONG_SKEW_S else "warning"
    return Check("clock", status, found, "let chrony or systemd-timesyncd set the clock of that node's host")
