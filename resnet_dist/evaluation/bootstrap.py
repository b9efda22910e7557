"""How far a metric would move on another sample of the same size: percentile intervals of the bootstrap.

Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13. A resample is N draws with replacement,
so the counts it needs are sums of per-sample indicators weighted by how often each sample was drawn.
"""

import numpy as np
from numpy.typing import NDArray

from resnet_dist.evaluation.metrics import from_counts, macro

_CHUNK_DRAWS = 4_000_000


def intervals(
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    in_top5: NDArray[np.bool_],
    losses: NDArray[np.float64],
    classes: int,
    seed: int,
    resamples: int,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of top1, top5, macro_f1, balanced_accuracy and log_loss; all inputs [N], N at least 1.

    The same seed draws the same resamples.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    right = (labels == predictions).astype(np.float64)
    columns = np.stack([right, in_top5.astype(np.float64), losses], axis=1)
    by_label = _one_hot(labels, classes)
    counts = {"support": by_label, "predicted": _one_hot(predictions, classes), "right": by_label * right[:, None]}
    chunks: list[dict[str, NDArray[np.float64]]] = []
    size = max(1, _CHUNK_DRAWS // len(labels))
    for first in range(0, resamples, size):
        drawn = _weights(generator, len(labels), min(size, resamples - first))
        means = drawn @ columns / len(labels)
        support, predicted, correct = (drawn @ counts[name] for name in ("support", "predicted", "right"))
        recall, _, f1 = from_counts(correct, support.astype(np.int64), predicted.astype(np.int64))
        chunks.append(
            {
                "top1": means[:, 0],
                "top5": means[:, 1],
                "macro_f1": macro(f1, support.astype(np.int64)),
                "balanced_accuracy": macro(recall, support.astype(np.int64)),
                "log_loss": means[:, 2],
            }
        )
    return {name: _percentiles(np.concatenate([chunk[name] for chunk in chunks])) for name in chunks[0]}


def _one_hot(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    return (labels[:, None] == np.arange(classes)[None]).astype(np.float32)


def _weights(generator: np.random.Generator, samples: int, resamples: int) -> NDArray[np.float32]:
    """[resamples, samples]: how often each resample holds each sample."""
    drawn = generator.integers(0, samples, size=(resamples, samples))
    flat = (drawn + np.arange(resamples)[:, None] * samples).ravel()
    return np.bincount(flat, minlength=resamples * samples).reshape(resamples, samples).astype(np.float32)


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
