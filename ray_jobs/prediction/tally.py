"""What a run of `predict` comes to: how many images, answers of each class, rejected and unreadable ones."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ray_jobs.prediction.rows import printable
from resnet_dist.runtime.predictor import Prediction

_MOST_CLASSES = 20


@dataclass
class Tally:
    """Counts of images."""

    labels: Counter[str] = field(default_factory=Counter[str])
    """By class."""
    rejected: int = 0
    unreadable: int = 0

    @property
    def read(self) -> int:
        """Images that were answered, if only to be rejected."""
        return self.labels.total() + self.rejected

    @property
    def images(self) -> int:
        """All images."""
        return self.read + self.unreadable

    def count(self, answer: Prediction) -> None:
        """Add an image."""
        if answer.error is not None:
            self.unreadable += 1
        elif answer.label is None:
            self.rejected += 1
        else:
            self.labels[answer.label] += 1

    def add(self, other: "Tally") -> None:
        """Add what another one counted."""
        self.labels.update(other.labels)
        self.rejected += other.rejected
        self.unreadable += other.unreadable

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"labels": dict(self.labels), "rejected": self.rejected, "unreadable": self.unreadable}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Tally":
        """What `to_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
        labels = Counter({str(name): int(count) for name, count in dict(value["labels"]).items()})
        return cls(labels, int(value["rejected"]), int(value["unreadable"]))

    def summary(self, seconds: float, computed: int | None = None) -> str:
        """Two lines for people; `computed` of the images took the seconds, by default all."""
        computed = self.images if computed is None else computed
        rate = f"{computed / seconds:.0f} images/s" if seconds > 0 and computed else "nothing to compute"
        head = (
            f"{self.images} images in {seconds:.1f} s ({rate}): {self.rejected} rejected, {self.unreadable} unreadable"
        )
        most = self.labels.most_common(_MOST_CLASSES)
        rest = self.labels.total() - sum(count for _, count in most)
        counts = [f"{printable(name)} {count}" for name, count in most]
        if rest:
            counts.append(f"{rest} of {len(self.labels) - len(most)} more classes")
        return f"{head}\n{', '.join(counts)}" if counts else head
