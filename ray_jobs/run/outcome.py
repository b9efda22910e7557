"""The results of a finished run."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ray_jobs.terminal.counted import counted
from resnet_dist.plain_json import plain_number, plain_numbers


@dataclass(frozen=True)
class BestEpoch:
    """The validated epoch that is best by `checkpoint.monitor`, and the value that it has."""

    epoch: int | None
    """From 1 on; None where its record was lost."""
    step: int
    monitor: str
    value: float

    def __str__(self) -> str:
        which = f"step {self.step}" if self.epoch is None else f"epoch {self.epoch}"
        return f"{which}, by {self.monitor} {self.value:.4f}"


@dataclass(frozen=True)
class TrainOutcome:
    """What `run_train` returns."""

    run: str
    """URI of the run."""
    steps: int
    epochs: int
    metrics: dict[str, float]
    """Of the best epoch by `checkpoint.monitor`."""
    images_per_second: float | None
    """Training throughput over all workers: the median of what was recorded."""
    already_finished: bool
    """The run was finished before: nothing was done."""
    best: BestEpoch | None = None
    """None where no epoch had a number to compare."""
    ended_early: str = ""
    """What early stopping has to say, where it ended the run; else empty."""
    splits: dict[str, int] = field(default_factory=dict[str, int])
    """Images of each split."""

    @property
    def ending(self) -> str:
        """How the run ended and which epoch is best, in one line."""
        ended = self.ended_early or f"finished after {counted(self.epochs, 'epoch')}"
        return f"{ended}; best: {self.best}" if self.best is not None else ended

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        best = None if self.best is None else {**asdict(self.best), "value": plain_number(self.best.value)}
        return {**asdict(self), "metrics": plain_numbers(self.metrics), "best": best}
