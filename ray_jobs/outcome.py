"""What a finished job hands back to its caller."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainOutcome:
    """A run that is done."""

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
