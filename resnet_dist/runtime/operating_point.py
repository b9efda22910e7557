"""From logits to answers: calibrated probabilities, classes that are answered before others, and a reject class."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter

from resnet_dist.runtime.errors import BundleError, brief

REJECTED = -1
"""The answer to an image that no class is probable enough for."""


@dataclass(frozen=True)
class OperatingPoint:
    """How probabilities become answers.

    A class with a threshold is answered wherever its probability reaches it, and is never rejected then; of several
    such the one that is furthest above, by ratio. Else the most probable of the classes without one is the answer, or,
    where all have one, the class that comes closest to its own. Such an answer is rejected if it is less probable than
    `reject_below`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """Logits are divided by it before the softmax (arXiv:1706.04599)."""
    thresholds: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=0.0, le=1.0)]] = field(
        default_factory=dict[int, float]
    )
    """Of classes, by their number."""
    reject_below: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0

    @classmethod
    def from_json(cls, value: Any, classes: tuple[str, ...]) -> "OperatingPoint":
        """What `to_json` gave. Raises BundleError for anything else."""
        try:
            named = dict(value)
            numbers = {classes.index(name): each for name, each in dict(named.pop("thresholds")).items()}
            return _ADAPTER.validate_python(named | {"thresholds": numbers})
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BundleError(
                f"the operating point {brief(value)} cannot be used ({brief(error)}); export the run again"
            ) from error

    def to_json(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Plain values, with thresholds by class name."""
        return {
            "temperature": self.temperature,
            "thresholds": {classes[number]: each for number, each in self.thresholds.items()},
            "reject_below": self.reject_below,
        }

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Softmax [N, C] of logits [N, C] over the temperature; finite where the logits are."""
        below = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        with np.errstate(over="ignore"):  # minus infinity is what a tiny temperature makes of it
            powers = np.exp(below / self.temperature)
        return powers / powers.sum(axis=1, keepdims=True)

    def answers(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        """Class numbers [N], or REJECTED, of probabilities [N, C]."""
        candidates, is_answered = self.decide(probabilities)
        return np.where(is_answered, candidates, REJECTED)

    def decide(self, probabilities: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The class of each row of probabilities [N, C], and whether it is answered or rejected, both [N]."""
        rows = np.arange(len(probabilities))
        watched = np.array(sorted(self.thresholds), dtype=np.int64)
        limits = np.array([self.thresholds[number] for number in watched.tolist()], dtype=np.float64)
        others = np.setdiff1d(np.arange(probabilities.shape[1], dtype=np.int64), watched)
        own = probabilities[:, watched]
        has_reached = own >= limits
        is_over = has_reached.any(axis=1)
        # A limit of 0 is reached by all, and divides none.
        ratios = own / np.maximum(limits, np.finfo(np.float64).tiny)
        candidates = others[probabilities[:, others].argmax(axis=1)] if len(others) else watched[ratios.argmax(axis=1)]
        if len(watched):
            furthest = watched[np.where(has_reached, ratios, -1.0).argmax(axis=1)]
            candidates = np.where(is_over, furthest, candidates)
        return candidates, is_over | (probabilities[rows, candidates] >= self.reject_below)


_ADAPTER = TypeAdapter(OperatingPoint)
