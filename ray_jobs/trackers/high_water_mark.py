"""The furthest step that a tracker has received, so that a resumed run logs nothing twice.

A tracker's own process or server outlives a killed worker. It keeps steps beyond the checkpoint that training resumes
from; training repeats those steps with the same values.
"""

import json
from collections.abc import Iterable
from pathlib import Path


class HighWaterMark:
    """The furthest step logged, for training and for validation apart: a validation has the step of an epoch's end."""

    def __init__(self, path: Path | None) -> None:
        """`path`: the file that keeps the mark; None where the tracker's server knows it."""
        self._path = path
        self._furthest: dict[str, int] = {}
        if path is None:
            return
        try:
            stored = json.loads(path.read_text())
            self._furthest = {str(kind): int(step) for kind, step in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            pass  # the first start, or a truncated write: at worst a step is logged twice

    def reach(self, step: int, metrics: Iterable[str]) -> None:
        """Raise the mark of records with such keys to at least `step`."""
        kind = _kind(metrics)
        self._furthest[kind] = max(step, self._furthest.get(kind, -1))

    def is_new(self, step: int, metrics: Iterable[str]) -> bool:
        """Whether a record with these keys lies beyond the mark of its kind."""
        return step > self._furthest.get(_kind(metrics), -1)

    def record(self, step: int, metrics: Iterable[str]) -> None:
        """Remember a record that the tracker has received."""
        self.reach(step, metrics)
        if self._path is not None:
            self._path.write_text(json.dumps(self._furthest))


def _kind(metrics: Iterable[str]) -> str:
    return "validation" if any(name.startswith("val/") for name in metrics) else "training"
