"""A model judged on a split: answers per batch, put in the split's order, then metrics with intervals."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resnet_dist.evaluation.bootstrap import intervals
from resnet_dist.evaluation.metrics import (
    confusion_matrix,
    confusion_metrics,
    in_top,
    log_probabilities,
    per_class,
)

SCHEMA = 1


@dataclass(frozen=True)
class ClassResult:
    """How one class fared."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class EvaluationResult:
    """A split's metrics in 0..1 (log_loss in nats), their 95 % intervals, classes and counts."""

    samples: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    classes: tuple[ClassResult, ...]
    confusion: NDArray[np.int64]
    """[classes, classes]: entry (i, j) counts samples of class i predicted as j."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": SCHEMA,
            "samples": self.samples,
            "metrics": self.metrics,
            "intervals_95": {name: list(bounds) for name, bounds in self.intervals.items()},
            "classes": [vars(result) for result in self.classes],
            "confusion": self.confusion.tolist(),
        }


Answers = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Rows [n] of a split, and their logits [n, classes]."""


def predict(model: nn.Module, batches: Iterable[tuple[NDArray[np.int64], torch.Tensor]]) -> Answers:
    """Answers to batches of (rows int64 [B], images float32 [B, 3, height, width] on the model's device)."""
    rows: list[NDArray[np.int64]] = []
    logits: list[NDArray[np.float32]] = []
    model.eval()
    with torch.inference_mode():
        for batch_rows, images in batches:
            rows.append(batch_rows)
            logits.append(model(images).float().cpu().numpy())
    if not rows:
        return np.empty(0, dtype=np.int64), np.empty((0, 0), dtype=np.float32)
    return np.concatenate(rows), np.concatenate(logits)


def assemble(parts: Iterable[Answers], samples: int) -> NDArray[np.float32]:
    """Logits [samples, classes] in the split's order. Raises ValueError unless every row was answered exactly once."""
    answered = [part for part in parts if len(part[0])]
    rows = np.concatenate([part[0] for part in answered]) if answered else np.empty(0, dtype=np.int64)
    if not np.array_equal(np.sort(rows), np.arange(samples)):
        raise ValueError(
            f"{len(rows)} answers, {len(np.unique(rows))} of them distinct, to {samples} samples: one is due each"
        )
    return np.concatenate([part[1] for part in answered])[np.argsort(rows)]


def report(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    seed: int,
    bootstrap_samples: int,
) -> EvaluationResult:
    """Metrics of logits [N, C] against labels [N]; a function of its arguments. Raises ValueError for N = 0."""
    if not len(labels):
        raise ValueError("a split without samples cannot be judged; choose another split")
    losses = -log_probabilities(logits)[np.arange(len(labels)), labels]
    predictions = logits.argmax(axis=1).astype(np.int64)
    top5 = in_top(logits, labels, 5)
    confusion = confusion_matrix(labels, predictions, len(classes))
    recall, precision, f1 = per_class(confusion)
    support = confusion.sum(axis=1)
    return EvaluationResult(
        samples=len(labels),
        metrics={**confusion_metrics(confusion), "top5": float(top5.mean()), "log_loss": float(losses.mean())},
        intervals=intervals(labels, predictions, top5, losses, len(classes), seed, bootstrap_samples),
        classes=tuple(
            ClassResult(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(classes)
        ),
        confusion=confusion,
    )
