"""What a phase of compression comes to."""

from dataclasses import dataclass
from typing import Any

from ray_jobs.run.outcome import TrainOutcome
from resnet_dist.plain_json import plain_numbers


@dataclass(frozen=True)
class PhaseOutcome:
    """A run that a phase made."""

    phase: str
    parent: str
    """As a RUN argument."""
    training: TrainOutcome
    """Of the last run of the phase."""
    plan: dict[str, Any]
    """What was decided and predicted; empty for distillation."""
    measured: dict[str, float]
    """Milliseconds of the dense and of the pruned network in the engine of a latency target; else empty."""
    loss: str
    """What it lost of its teacher's top-1, in words; empty where that was not asked for."""

    @property
    def run(self) -> str:
        """URI of the run."""
        return self.training.run

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": 1,
            "phase": self.phase,
            "parent": self.parent,
            "training": self.training.to_json(),
            "plan": self.plan,
            "measured": plain_numbers(self.measured),
            "loss": self.loss,
        }
