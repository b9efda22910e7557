"""What containers have printed."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

Container = tuple[str, str, str]
"""Namespace, pod, container."""


@dataclass
class Logs:
    """Lines with their times; each line's is later than the one before, unless it is given."""

    lines: dict[Container, list[tuple[str, str]]] = field(default_factory=dict)
    ended: set[Container] = field(default_factory=set)
    changed: threading.Condition = field(default_factory=threading.Condition)
    _last: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=1))

    def say(self, container: Container, *lines: str, time: str | None = None) -> None:
        """Let a container print."""
        with self.changed:
            for line in lines:
                self._last += timedelta(microseconds=7)
                stamp = time or self._last.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
                self.lines.setdefault(container, []).append((stamp, line))
            self.changed.notify_all()

    def end(self, container: Container) -> None:
        """Nothing more comes; whoever follows it is told so."""
        with self.changed:
            self.ended.add(container)
            self.changed.notify_all()

    def since(self, container: Container, after: int, since_time: str) -> tuple[list[tuple[str, str]], int, bool]:
        """Lines from number `after` on that are not older; how many there are; whether it has ended."""
        with self.changed:
            lines = self.lines.get(container, [])
            return [each for each in lines[after:] if each[0] >= since_time], len(lines), container in self.ended
