"""Metrics of a classifier as functions of counts or of logits, in numpy and float64.

Macro averages run over the classes that occur as a label: a class without samples has no recall to speak of. A class
with samples that is never predicted has precision, recall and F1 0. In scikit-learn's words: `labels=unique(y_true)`,
`zero_division=0`.
"""

import numpy as np
from numpy.typing import NDArray

from resnet_dist.errors import RunError

METRICS = ("top1", "macro_f1", "balanced_accuracy", "log_loss")
"""Of every evaluation. Above five classes there is top5, too: of five or fewer, each is always among the best five."""
TOP = 5


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """int64 [classes, classes]: entry (i, j) counts samples of class i predicted as j."""
    return np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def confusion_metrics(confusion: NDArray[np.int64]) -> dict[str, float]:
    """top1, macro_f1 and balanced_accuracy in 0..1 from counts [classes, classes]; needs at least one sample."""
    recall, _, f1 = per_class(confusion)
    support = confusion.sum(axis=1)
    return {
        "top1": float(np.trace(confusion) / confusion.sum()),
        "macro_f1": float(macro(f1, support)),
        "balanced_accuracy": float(macro(recall, support)),
    }


def per_class(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Recall, precision and F1 of each class, float64 [classes], from counts [classes, classes]."""
    return from_counts(np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0))


def from_counts(
    right: NDArray[np.int64], support: NDArray[np.int64], predicted: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Recall, precision and F1 from each class's right answers, samples and predictions, all [..., classes]."""
    recall = right / np.maximum(support, 1)
    precision = right / np.maximum(predicted, 1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    return recall, precision, f1


def macro(values: NDArray[np.float64], support: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of values [..., classes] over the classes with samples; at least one class must have some."""
    present = support > 0
    return (values * present).sum(axis=-1) / present.sum(axis=-1)


def log_losses(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """-log softmax at the label: float64 [N], finite. Raises RunError when a logit [N, C] is not."""
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise RunError(
            f"{broken} of {len(logits)} samples have logits that are not finite, so the weights have diverged; "
            "judge an earlier checkpoint, or train again with a lower learning rate"
        )
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


def in_top(logits: NDArray[np.float32], labels: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """bool [N]: whether fewer than `count` classes come before the label; of equal logits the lower class does.

    All are in the top of `count` or fewer classes; `in_top(..., 1)` is `logits.argmax(1) == labels`.
    """
    own = logits[np.arange(len(labels)), labels][:, None]
    is_lower = np.arange(logits.shape[1], dtype=np.int64)[None] < labels[:, None]
    return np.sum((logits > own) | ((logits == own) & is_lower), axis=1) < count
