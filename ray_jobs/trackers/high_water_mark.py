"""How far a tracker that cannot take anything back has been told of a run, so that a resumed run tells nothing twice.

A tracker's own process or server outlives a killed worker and keeps what it was given, beyond the checkpoint that
training goes on from. Those steps come again with the same values.
"""

import json
from collections.abc import Iterable
from pathlib import Path


class Marks:
    """The furthest step told: of training, and of validation, which shares a step with the training before it."""

    def __init__(self, path: Path | None) -> None:
        """Kept in a file, unless the tracker's server can be asked."""
        self._path = path
        self._furthest: dict[str, int] = {}
        if path is None:
            return
        try:
            stored = json.loads(path.read_text())
            self._furthest = {str(kind): int(step) for kind, step in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            pass  # no start before this one, or its last write was cut: at worst a step is told twice

    def reach(self, step: int, metrics: Iterable[str]) -> None:
        """At least this far for records with such keys."""
        kind = _kind(metrics)
        self._furthest[kind] = max(step, self._furthest.get(kind, -1))

    def is_new(self, step: int, metrics: Iterable[str]) -> bool:
        """Whether a record with these keys is beyond the furthest of its kind."""
        return step > self._furthest.get(_kind(metrics), -1)

    def told(self, step: int, metrics: Iterable[str]) -> None:
        """Remember a record that was told."""
        self.reach(step, metrics)
        if self._path is not None:
            self._path.write_text(json.dumps(self._furthest))


def _kind(metrics: Iterable[str]) -> str:
    return "validation" if any(name.startswith("val/") for name in metrics) else "training"
