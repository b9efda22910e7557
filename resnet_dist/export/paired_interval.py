"""What a format loses of the trained model's accuracy on the same samples: the interval, and how many samples tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054
_MOST_SAMPLES = 10_000_000


@dataclass(frozen=True)
class Changes:
    """What a format changes of the trained model's answers to images whose class is known."""

    lost: int
    """Images that the trained model alone answers rightly."""
    won: int
    """Images that the format alone answers rightly."""
    samples: int

    @classmethod
    def between(
        cls, model_right: NDArray[np.bool_] | Sequence[bool], format_right: NDArray[np.bool_] | Sequence[bool]
    ) -> Self:
        """Of the same samples, in the same order: whether each is answered rightly."""
        first, second = np.asarray(model_right, dtype=bool), np.asarray(format_right, dtype=bool)
        return cls(int((first & ~second).sum()), int((~first & second).sum()), len(first))

    @property
    def loss(self) -> float:
        """Of top-1, as a share; negative where the format is better."""
        return (self.lost - self.won) / self.samples

    def interval(self, samples: int | None = None) -> tuple[float, float]:
        """95 % interval of the loss; with `samples`, as if so many had been seen with the same shares.

        Adjusted Wald interval for paired proportions, right down to no disagreement at all: Bonett and Price,
        "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired Data" (2012).
        """
        samples = self.samples if samples is None else samples
        times, count = samples / self.samples, samples + 2
        lost, won = (self.lost * times + 1) / count, (self.won * times + 1) / count
        half = _Z * ((lost + won - (lost - won) ** 2) / count) ** 0.5
        return max(lost - won - half, -1.0), min(lost - won + half, 1.0)

    def samples_to_tell(self, most: float) -> int | None:
        """How many samples, with the same shares, tell whether the loss is above `most`; None where ten million do not.

        More samples make the interval smaller, so the number is found by bisection.
        """

        def is_told(samples: int) -> bool:
            low, high = self.interval(samples)
            return low > most or high <= most

        least, enough = self.samples, self.samples
        while not is_told(enough):
            least, enough = enough, 2 * enough
            if enough > _MOST_SAMPLES:
                return None
        while enough - least > 1:
            middle = (least + enough) // 2
            least, enough = (least, middle) if is_told(middle) else (middle, enough)
        return enough
