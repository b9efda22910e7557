"""What every rank but zero does where rank zero records: it meets the others at the end of an epoch."""

from collections.abc import Callable
from typing import Self

from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import StepTotals

EpochBarrier = Callable[[TrainState, dict[str, float]], bool]
"""What ranks do together at the end of an epoch, with its metrics: whether training goes on, the same on all."""


class SilentRecorder:
    """On every other rank: meets rank zero at the end of an epoch."""

    def __init__(self, epoch_barrier: EpochBarrier) -> None:
        self._epoch_barrier = epoch_barrier

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to finish."""

    def step_done(self, state: TrainState, totals: StepTotals, waited: float) -> None:
        """Nothing to record."""

    def epoch_done(self, state: TrainState, metrics: dict[str, float]) -> bool:
        """Meet the other ranks."""
        return self._epoch_barrier(state, metrics)
