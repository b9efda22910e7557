"""A model judged on a split: answers batch by batch, put in the split's order, then metrics with intervals."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resnet_dist.evaluation.bootstrap import intervals
from resnet_dist.evaluation.few_images import remark_on
from resnet_dist.evaluation.metrics import TOP, confusion_matrix, confusion_metrics, in_top, log_losses, per_class
from resnet_dist.training.source import EvaluationBatch

SCHEMA = 1

Answers = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Rows [n] of a split, and their logits [n, classes]."""


@dataclass(frozen=True)
class ClassResult:
    """How one class fared; ratios in 0..1, 0 where there is nothing to divide by."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """Samples of the class."""

    @property
    def remark(self) -> str:
        """That there are too few samples to judge the class by; else empty."""
        return remark_on(self.support)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "remark": self.remark}


@dataclass(frozen=True)
class EvaluationResult:
    """A split's metrics (METRICS, and top5 above five classes; in 0..1, log_loss in nats), intervals and counts."""

    samples: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    """95 %, (low, high)."""
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Row i, column j counts samples of class i predicted as j."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without a number that JSON cannot hold."""
        return {
            "schema": SCHEMA,
            "samples": self.samples,
            "metrics": self.metrics,
            "intervals_95": {name: list(bounds) for name, bounds in self.intervals.items()},
            "classes": [result.to_json() for result in self.classes],
            "confusion": [list(row) for row in self.confusion],
        }


@torch.no_grad()
def predict(
    model: nn.Module,
    batches: Iterable[EvaluationBatch],
    device: torch.device,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Answers:
    """One rank's answers in the order of its batches. `model` is on `device` and left in evaluation mode."""
    rows = [np.empty(0, dtype=np.int64)]
    logits: list[NDArray[np.float32]] = []
    model.eval()
    for batch in batches:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            answers: torch.Tensor = model(batch.images.to(device))
        rows.append(batch.rows)
        logits.append(answers.float().cpu().numpy())
    return np.concatenate(rows), np.concatenate(logits) if logits else np.empty((0, 0), dtype=np.float32)


def assemble(parts: Iterable[Answers], samples: int) -> NDArray[np.float32]:
    """Logits [samples, classes] in the split's order, whatever parts they come in; a rank without batches has none.

    Raises ValueError unless each of the rows 0 .. samples - 1 is answered exactly once.
    """
    answered = [part for part in parts if len(part[0])]
    if not answered or not samples:
        raise ValueError(f"{len(answered)} parts with answers to {samples} samples; judge a split that has samples")
    rows = np.concatenate([part_rows for part_rows, _ in answered])
    order = np.argsort(rows)
    if not np.array_equal(rows[order], np.arange(samples)):
        raise ValueError(
            f"{len(rows)} answers to {len(np.unique(rows))} rows ({rows.min()}..{rows.max()}) of a split of {samples}; "
            "each row is due exactly one"
        )
    return np.concatenate([logits for _, logits in answered])[order]


def report(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    seed: int,
    bootstrap_samples: int,
) -> EvaluationResult:
    """Metrics of logits [N, C] against labels [N], N at least 1. Pure. Raises RunError when a logit is not finite."""
    losses = log_losses(logits, labels)
    predictions = logits.argmax(axis=1).astype(np.int64)
    in_top5 = in_top(logits, labels, TOP) if len(classes) > TOP else None
    confusion = confusion_matrix(labels, predictions, len(classes))
    recall, precision, f1 = per_class(confusion)
    support = confusion.sum(axis=1)
    return EvaluationResult(
        samples=len(labels),
        metrics={
            **confusion_metrics(confusion),
            **({} if in_top5 is None else {"top5": float(in_top5.mean())}),
            "log_loss": float(losses.mean()),
        },
        intervals=intervals(labels, predictions, in_top5, losses, len(classes), seed, bootstrap_samples),
        classes=tuple(
            ClassResult(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(classes)
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )
