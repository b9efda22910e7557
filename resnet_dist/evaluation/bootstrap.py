"""How far a metric would move on another sample of the same size: percentile intervals of the bootstrap.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. A resample is N draws with replacement;
its metrics need a few counts per class only, so neither logits nor confusion matrices are resampled.
"""

import numpy as np
from numpy.typing import NDArray

from resnet_dist.evaluation.metrics import METRICS, from_counts, macro

_DRAWS_AT_ONCE = 1_000_000


def intervals(
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    in_top5: NDArray[np.bool_],
    losses: NDArray[np.float64],
    classes: int,
    seed: int,
    resamples: int,
) -> dict[str, tuple[float, float]]:
    """95 % intervals (low, high) of METRICS. All arrays are [N], N at least 1.

    A class that a resample holds no sample of does not enter that resample's macro averages. Pure: the same seed
    draws the same resamples.
    """
    generator = np.random.Generator(np.random.Philox(seed % 2**128))
    samples = len(labels)
    at_once = max(1, _DRAWS_AT_ONCE // samples)
    values: dict[str, list[NDArray[np.float64]]] = {name: [] for name in METRICS}
    for first in range(0, resamples, at_once):
        drawn = generator.integers(0, samples, size=(min(at_once, resamples - first), samples))
        drawn_labels, drawn_predictions = labels[drawn], predictions[drawn]
        is_right = drawn_labels == drawn_predictions
        support = _count(drawn_labels, classes)
        # One class more takes the wrong answers.
        right = _count(np.where(is_right, drawn_labels, classes), classes + 1)[:, :classes]
        recall, _, f1 = from_counts(right, support, _count(drawn_predictions, classes))
        values["top1"].append(is_right.mean(axis=1))
        values["top5"].append(in_top5[drawn].mean(axis=1))
        values["macro_f1"].append(macro(f1, support))
        values["balanced_accuracy"].append(macro(recall, support))
        values["log_loss"].append(losses[drawn].mean(axis=1))
    return {name: _interval(np.concatenate(parts)) for name, parts in values.items()}


def _count(numbers: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """int64 [R, classes]: how often each row of `numbers` [R, N] holds each class."""
    rows = len(numbers)
    shifted = numbers + classes * np.arange(rows)[:, None]
    return np.bincount(shifted.ravel(), minlength=rows * classes).reshape(rows, classes)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
