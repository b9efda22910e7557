"""How much of a result comes of samples that training had seen copies of."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_dist.evaluation.bootstrap import percentile_interval, rows_by_class, rows_of_all
from resnet_dist.evaluation.metrics import confusion_matrix, confusion_metrics, from_counts, macro


@dataclass(frozen=True)
class WithoutLeaks:
    """A split judged with and without the samples that have copies in what was trained on."""

    leaked: int
    """Samples that have copies."""
    kept: int
    """Samples that have none."""
    metrics: dict[str, float]
    """top1 and macro_f1 of those that have none, in 0..1; empty where all have copies."""
    gains: dict[str, tuple[float, float, float]]
    """By metric: how much better all samples do than those without copies, and the 95 % interval of that."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def without_leaks(
    labels: NDArray[np.int64],
    predictions: NDArray[np.int64],
    leaked: NDArray[np.bool_],
    classes: int,
    seed: int,
    resamples: int,
) -> WithoutLeaks | None:
    """Judge N samples with and without those that are `leaked`; None where none is.

    The interval is a percentile interval of the bootstrap, both metrics taken of the same resamples, which are drawn as
    in `resnet_dist.evaluation.bootstrap`: from all samples for top1, within classes for macro_f1. Pure.
    """
    kept = ~leaked
    if kept.all():
        return None
    if not kept.any():
        return WithoutLeaks(len(labels), 0, {}, {})
    everything = confusion_metrics(confusion_matrix(labels, predictions, classes))
    rest = confusion_metrics(confusion_matrix(labels[kept], predictions[kept], classes))
    by_all, by_class = np.random.Generator(np.random.Philox(seed % 2**128)).spawn(2)
    right = labels == predictions
    differences: dict[str, list[float]] = {"top1": [], "macro_f1": []}
    for _ in range(resamples):
        (rows,) = rows_of_all(len(labels), by_all, 1)
        if kept[rows].any():
            differences["top1"].append(float(right[rows].mean() - right[rows][kept[rows]].mean()))
        (rows,) = rows_by_class(labels, by_class, 1)
        if kept[rows].any():
            of_all, of_rest = (_macro_f1(labels, predictions, chosen, classes) for chosen in (rows, rows[kept[rows]]))
            differences["macro_f1"].append(of_all - of_rest)
    gains = {
        name: (everything[name] - rest[name], *percentile_interval(np.array(values)))
        for name, values in differences.items()
    }
    metrics = {name: rest[name] for name in differences}
    return WithoutLeaks(int(leaked.sum()), int(kept.sum()), metrics, gains)


def _macro_f1(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], rows: NDArray[np.int64], classes: int
) -> float:
    truth, answers = labels[rows], predictions[rows]
    support = np.bincount(truth, minlength=classes)
    right = np.bincount(truth[truth == answers], minlength=classes)
    _, _, f1 = from_counts(right, support, np.bincount(answers, minlength=classes))
    return float(macro(f1, support))
