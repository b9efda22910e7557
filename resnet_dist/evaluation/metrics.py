"""Metrics of a classifier as functions of counts or of logits, in numpy and float64.

Macro averages run over the classes that occur as a label: a class without samples has no recall to speak of. A class
that is never predicted has precision 0, and one without either has F1 0 (scikit-learn's zero_division=0).
"""

import numpy as np
from numpy.typing import NDArray

METRICS = ("top1", "top5", "macro_f1", "balanced_accuracy", "log_loss")


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """int64 [classes, classes]: entry (i, j) counts samples of class i predicted as j."""
    return np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def confusion_metrics(confusion: NDArray[np.integer]) -> dict[str, float]:
    """top1, macro_f1 and balanced_accuracy in 0..1 from counts [classes, classes]; needs at least one sample."""
    recall, _, f1 = (part[None] for part in per_class(confusion))
    support = confusion.sum(axis=1)[None]
    return {
        "top1": float(np.trace(confusion) / confusion.sum()),
        "macro_f1": float(macro(f1, support)[0]),
        "balanced_accuracy": float(macro(recall, support)[0]),
    }


def per_class(
    confusion: NDArray[np.integer],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Recall, precision and F1 of each class, float64 [..., classes], from counts [..., classes, classes]."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    return from_counts(right, confusion.sum(axis=-1), confusion.sum(axis=-2))


def from_counts(
    right: NDArray[np.float64], support: NDArray[np.integer], predicted: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Recall, precision and F1 from each class's right answers, samples and predictions, all [..., classes]."""
    recall = right / np.maximum(support, 1)
    precision = right / np.maximum(predicted, 1)
    f1 = 2.0 * right / np.maximum(support + predicted, 1)
    return recall, precision, f1


def macro(values: NDArray[np.float64], support: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean of values [..., classes] over the classes with samples."""
    present = support > 0
    return (values * present).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)


def log_probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """log softmax, float64 [N, C]. Raises ValueError when a logit is not finite."""
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise ValueError(
            f"{broken} of {len(logits)} samples have logits that are not finite; the weights have diverged, "
            "judge an earlier checkpoint or train with a lower learning rate"
        )
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def in_top(logits: NDArray[np.floating], labels: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """bool [N]: whether fewer than `count` classes come before the label; of equal logits the lower class does."""
    own = logits[np.arange(len(labels)), labels][:, None]
    lower = np.arange(logits.shape[1])[None] < labels[:, None]
    before = (logits > own) | ((logits == own) & lower)
    return before.sum(axis=1) < min(count, logits.shape[1])
