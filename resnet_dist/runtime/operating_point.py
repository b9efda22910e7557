"""From logits to answers: calibrated probabilities, classes that are answered before others, and a reject class."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from resnet_dist.runtime.errors import BundleError

REJECTED = -1
"""The answer to an image that no class is probable enough for."""


@dataclass(frozen=True)
class OperatingPoint:
    """How probabilities become answers.

    A class with a threshold is answered wherever its probability reaches it; of several such the one that is furthest
    above, by ratio. Else the most probable of the classes without one is, unless all have one. An answer that is less
    probable than `reject_below` is rejected.
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
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise BundleError(
                f"the bundle's operating point {value!r} cannot be used ({error}); export the run again"
            ) from error

    def to_json(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Plain values, with thresholds by class name."""
        return {
            "temperature": self.temperature,
            "thresholds": {classes[number]: each for number, each in self.thresholds.items()},
            "reject_below": self.reject_below,
        }

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Softmax [N, C] of logits [N, C] over the temperature."""
        scaled = logits.astype(np.float64) / self.temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def answers(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        """Class numbers [N], or REJECTED, of probabilities [N, C]."""
        answers = self._classes(probabilities)
        is_sure = probabilities[np.arange(len(answers)), answers] >= self.reject_below
        return np.where(is_sure, answers, REJECTED)

    def _classes(self, probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
        if not self.thresholds:
            return probabilities.argmax(axis=1).astype(np.int64)
        watched = np.array(sorted(self.thresholds), dtype=np.int64)
        limits = np.array([self.thresholds[number] for number in watched.tolist()])
        above = probabilities[:, watched] / np.maximum(limits, np.finfo(np.float64).tiny)
        alarmed = watched[above.argmax(axis=1)]
        others = np.array([n for n in range(probabilities.shape[1]) if n not in self.thresholds], dtype=np.int64)
        calm = others[probabilities[:, others].argmax(axis=1)] if len(others) else alarmed
        return np.where(above.max(axis=1) >= 1.0, alarmed, calm).astype(np.int64)


_ADAPTER = TypeAdapter(OperatingPoint)
