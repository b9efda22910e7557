"""An observer of the training loop that ends it at a step, as a kill would, and keeps what a checkpoint would hold."""

from dataclasses import dataclass, field
from typing import Any

from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import StepTotals


class StopError(Exception):
    pass


@dataclass
class Watcher:
    stop_at: int | None = None
    metrics: list[dict[str, float]] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)

    def step_done(self, state: TrainState, totals: StepTotals, _waited: float) -> None:
        self.metrics.append(totals.metrics())
        if state.step == self.stop_at:
            self.kept = {"weights": state.judged_weights(), "training_state": state.training_state()}
            raise StopError

    def epoch_done(self, _state: TrainState, metrics: dict[str, float]) -> bool:
        self.metrics.append(metrics)
        return True
