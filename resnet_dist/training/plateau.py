"""Whether a validation metric still improves."""

import math
from collections.abc import Mapping
from typing import Any, Self

from resnet_dist.checkpoint.progress import better


class PlateauCounter:
    """The best value of a monitored metric, and for how many epochs there was no better one.

    Of `.../loss` lower is better, of anything else higher. An improvement beats the best by more than `min_delta`;
    NaN and infinity never do, and the first number always does.
    """

    def __init__(self, monitor: str, min_delta: float) -> None:
        self.monitor = monitor
        self.min_delta = min_delta
        self.best: float | None = None
        """None as long as there was no number."""
        self.waited = 0
        """Epochs in a row without an improvement."""

    def update(self, metrics: Mapping[str, float]) -> None:
        """Take an epoch's validation metrics; KeyError where the monitored one is not among them."""
        value = float(metrics[self.monitor])
        if math.isfinite(value) and (self.best is None or better(self.monitor, value, self._bar(self.best))):
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    def _bar(self, best: float) -> float:
        """What must be beaten."""
        return best - self.min_delta if better(self.monitor, 0.0, 1.0) else best + self.min_delta

    def to_json(self) -> dict[str, Any]:
        """Plain values, exact."""
        return {"monitor": self.monitor, "best": self.best, "waited": self.waited}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], monitor: str, min_delta: float) -> Self:
        """From what `to_json` made; raises ValueError for anything else.

        A best of another metric says nothing of `monitor`, so then it begins anew.
        """
        if set(value) != {"monitor", "best", "waited"}:
            raise ValueError(f"a stored improvement has the fields {sorted(value)}, not best, monitor, waited")
        stored, best, waited = value["monitor"], value["best"], value["waited"]
        number = best is None or (isinstance(best, float) and math.isfinite(best))
        if not isinstance(stored, str) or not number or type(waited) is not int or waited < 0:
            raise ValueError(f"a stored improvement is damaged: {dict(value)}")
        counter = cls(monitor, min_delta)
        if stored == monitor:
            counter.best, counter.waited = best, waited
        return counter
