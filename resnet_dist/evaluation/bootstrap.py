"""How far a metric would move on another sample of the same size: percentile intervals of the bootstrap.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

Averages over classes (macro-F1, balanced accuracy) are resampled by class: a resample has as many samples of each class
as the split, drawn with replacement from that class's own (Davison and Hinkley, "Bootstrap Methods and their
Application" (1997), section 3.2, "Several samples"). So every resample holds the same classes. Drawn from all samples
alike, a resample loses rare classes, and a macro average over those that are left is of another quantity: where the
lost class is the one that is never found, it is too high. The price is that such an interval says nothing of how the
shares of the classes may vary.

Averages over samples (top-1, top-5, log loss) have no such trouble and are resampled from all samples: by class, the
interval of a model that is always right for some classes and never for the others would have no width.

A resample's metrics need a few counts per class only, so neither logits nor confusion matrices are resampled.
"""

import numpy as np
from numpy.typing import NDArray

from resnet_dist.evaluation.metrics import from_counts, macro

_DRAWS_AT_ONCE = 1_000_000


def intervals(
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    in_top5: NDArray[np.bool_] | None,
    losses: NDArray[np.float64],
    classes: int,
    seed: int,
    resamples: int,
) -> dict[str, tuple[float, float]]:
    """95 % intervals (low, high) of METRICS, and of top5 where `in_top5` is given. All arrays are [N], N
    at least 1.

    Pure: the same seed draws the same resamples.
    """
    generator, by_class_generator = np.random.Generator(np.random.Philox(seed % 2**128)).spawn(2)
    samples = len(labels)
    support = np.bincount(labels, minlength=classes)
    at_once = max(1, _DRAWS_AT_ONCE // samples)
    values: dict[str, list[NDArray[np.float64]]] = {}
    is_right = labels == predictions
    for first in range(0, resamples, at_once):
        count = min(at_once, resamples - first)
        by_class, any_of_all = rows_by_class(labels, by_class_generator, count), rows_of_all(samples, generator, count)
        # One class more takes the wrong answers.
        right = _count(np.where(is_right, labels, classes)[by_class], classes + 1)[:, :classes]
        recall, _, f1 = from_counts(right, support, _count(predictions[by_class], classes))
        found = {
            "top1": is_right[any_of_all].mean(axis=1),
            "macro_f1": macro(f1, support),
            "balanced_accuracy": macro(recall, support),
            "log_loss": losses[any_of_all].mean(axis=1),
        }
        if in_top5 is not None:
            found["top5"] = in_top5[any_of_all].mean(axis=1)
        for name, part in found.items():
            values.setdefault(name, []).append(part)
    return {name: percentile_interval(np.concatenate(parts)) for name, parts in values.items()}


def rows_of_all(samples: int, generator: np.random.Generator, resamples: int) -> NDArray[np.int64]:
    """int64 [resamples, samples]: rows drawn with replacement from all samples."""
    return generator.integers(0, samples, size=(resamples, samples))


def rows_by_class(labels: NDArray[np.int64], generator: np.random.Generator, resamples: int) -> NDArray[np.int64]:
    """int64 [resamples, N]: rows of labels [N], drawn with replacement within each class, the classes in order.

    Every resample has `np.sort(labels)` for its labels. Two calls with one generator draw what one call for the sum of
    their resamples draws.
    """
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    firsts = np.searchsorted(ordered, ordered, side="left")
    sizes = np.searchsorted(ordered, ordered, side="right") - firsts
    places = (generator.random((resamples, len(labels))) * sizes).astype(np.int64)
    return order[firsts + places]


def percentile_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of a metric's values [resamples]."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _count(numbers: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """int64 [R, classes]: how often each row of `numbers` [R, N] holds each class."""
    rows = len(numbers)
    shifted = numbers + classes * np.arange(rows)[:, None]
    return np.bincount(shifted.ravel(), minlength=rows * classes).reshape(rows, classes)
