"""What another model, or a format, loses of a trained model's accuracy on the same samples, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from resnet_dist.evaluation.bootstrap import percentile_interval, rows_by_class
from resnet_dist.evaluation.metrics import confusion_matrix, confusion_metrics

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


def macro_f1_loss(
    labels: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    classes: int,
    seed: int,
    resamples: int,
) -> tuple[float, tuple[float, float]]:
    """Macro-F1 of predictions `first` less that of `second` of the same samples, all int64 [N], and its 95 % interval.

    The interval is a percentile one of the bootstrap within classes (`resnet_dist.evaluation.bootstrap`): each resample
    judges both by the same samples.
    """

    def loss(rows: NDArray[np.int64] | slice) -> float:
        both = (confusion_matrix(labels[rows], each[rows], classes) for each in (first, second))
        before, after = (confusion_metrics(each)["macro_f1"] for each in both)
        return before - after

    generator = np.random.Generator(np.random.Philox(seed % 2**128))
    drawn = (rows_by_class(labels, generator, 1)[0] for _ in range(resamples))
    return loss(slice(None)), percentile_interval(np.array([loss(rows) for rows in drawn]))
