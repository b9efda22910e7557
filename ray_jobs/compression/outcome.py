"""What a phase of compression comes to, and a chain of them."""

from dataclasses import asdict, dataclass, field
from typing import Any

from ray_jobs.run.outcome import TrainOutcome
from resnet_dist.plain_json import plain_numbers


@dataclass(frozen=True)
class PhaseOutcome:
    """The result of a phase."""

    phase: str
    parent: str
    """As a RUN argument."""
    run: str
    """URI of the run that is the result."""
    training: TrainOutcome | None
    """Of the last run of the phase; None where nothing had to be trained, and the result is the parent."""
    plan: dict[str, Any]
    """What was decided and predicted; empty for distillation."""
    measured: dict[str, float]
    """Milliseconds of the dense and of the pruned network in the engine of a latency target; else empty."""
    loss: str
    """What it lost of its teacher's top-1, in words; empty where that was not asked for."""
    calibrated: dict[str, str] = field(default_factory=dict[str, str])
    """Of quantisation: what ranges alone lose, without training, by split, in words."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": 1,
            "phase": self.phase,
            "parent": self.parent,
            "run": self.run,
            "training": None if self.training is None else self.training.to_json(),
            "plan": self.plan,
            "measured": plain_numbers(self.measured),
            "loss": self.loss,
            "calibrated": self.calibrated,
        }


@dataclass(frozen=True)
class Try:
    """A share that was tried."""

    share: float
    """Of the target's kind that is kept, in (0, 1)."""
    run: str
    """URI; empty where the share cannot be reached, so that nothing was trained."""
    loss: str
    """On val, in words; why it was not pruned, where it was not."""
    is_small_enough: bool
    """Whether the loss is."""


@dataclass(frozen=True)
class ChainOutcome:
    """A chain that is done."""

    recipe: str
    phases: tuple[PhaseOutcome, ...]
    tries: tuple[Try, ...] = field(default=())
    """Of phases that search the smallest network."""

    @property
    def run(self) -> str:
        """URI of the result."""
        return self.phases[-1].run

    def to_json(self) -> dict[str, Any]:
        """Plain values: chain.json."""
        return {
            "schema": 1,
            "recipe": self.recipe,
            "result": self.run,
            "runs": [phase.run for phase in self.phases],
            "tries": [asdict(each) for each in self.tries],
        }
