"""The results of a finished run."""

from dataclasses import asdict, dataclass
from typing import Any

from resnet_dist.plain_json import plain_numbers


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

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "metrics": plain_numbers(self.metrics)}
