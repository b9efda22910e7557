"""Compares the answers of a format with those of the trained model, and judges them by what its precision allows."""

from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resnet_dist.evaluation.calibration import expected_calibration_error
from resnet_dist.evaluation.judged_answers import judge_answers
from resnet_dist.evaluation.metrics import confusion_matrix, confusion_metrics
from resnet_dist.evaluation.paired_interval import Changes
from resnet_dist.runtime.bundle import Precision
from resnet_dist.runtime.engines import Engine
from resnet_dist.runtime.operating_point import OperatingPoint

RELATIVE_LOGITS = 1e-3
"""fp32: most difference of a logit over the largest logit."""
HALF_AGREEMENT = 0.995
"""fp16, bf16: least share of val that is answered alike."""
_TIMED = 20

Verdict = Literal["passed", "inconclusive", "refused"]


@dataclass(frozen=True)
class ReferenceAnswers:
    """Images with what the trained model answers."""

    images: NDArray[np.uint8]
    """[N, height, width, 3]."""
    labels: NDArray[np.int64]
    """[N]; of noise they mean nothing."""
    logits: NDArray[np.float32]
    """[N, C] of the trained model, in fp32 by torch, unfolded."""


@dataclass(frozen=True)
class Reference:
    """The trained model, as formats are compared with it."""

    val: ReferenceAnswers
    noise: ReferenceAnswers
    point: OperatingPoint
    classes: tuple[str, ...]
    recalls: dict[str, float]
    """What was asked of classes on val."""


@dataclass(frozen=True)
class Parity:
    """A format against the trained model. Ratios in 0..1, logit differences absolute."""

    verdict: Verdict
    reason: str
    """What decided, with numbers; empty where it passed."""
    samples: int
    top1: float
    top1_difference: float
    """The trained model's less the format's; negative where the format is better."""
    top1_difference_interval: tuple[float, float]
    """95 %, paired."""
    macro_f1: float
    macro_f1_difference: float
    agreement: float
    """Share of val answered alike."""
    agreement_on_noise: float
    max_logit_difference: float
    mean_logit_difference: float
    relative_logit_difference: float
    """The largest difference of a logit, on val or noise, over the largest logit there."""
    calibration_error: float
    """Expected calibration error on val, with the bundle's temperature."""
    megabytes: float
    """Of the format's files."""
    milliseconds: float
    """One image alone, median of some; `resnet-dist benchmark` measures properly."""
    recalls: dict[str, float] = field(default_factory=dict[str, float])
    """By the operating point on val, of each class that a recall was asked of."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "top1_difference_interval": list(self.top1_difference_interval)}


def answers(engine: Engine, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    """Logits [N, C] of images [N, height, width, 3], batch by batch."""
    return np.concatenate(
        [engine(np.ascontiguousarray(images[at : at + batch_size])) for at in range(0, len(images), batch_size)]
    )


def check_parity(
    engine: Engine,
    precision: Precision,
    reference: Reference,
    int8_max_loss: float,
    size_bytes: int,
    batch_size: int,
) -> Parity:
    """Run a format over val and noise and compare its answers with the reference."""
    val, noise = reference.val, reference.noise
    logits, on_noise = answers(engine, val.images, batch_size), answers(engine, noise.images, batch_size)
    own, model = logits.argmax(axis=1), val.logits.argmax(axis=1)
    classes = val.logits.shape[1]
    f1 = confusion_metrics(confusion_matrix(val.labels, own.astype(np.int64), classes))
    model_f1 = confusion_metrics(confusion_matrix(val.labels, model.astype(np.int64), classes))
    difference = np.concatenate([np.abs(logits - val.logits), np.abs(on_noise - noise.logits)])
    largest = max(float(np.abs(val.logits).max()), float(np.abs(noise.logits).max()))
    is_finite = bool(np.isfinite(logits).all() and np.isfinite(on_noise).all())
    relative = float(difference.max()) / largest if is_finite else float("inf")
    changes = Changes.between(model == val.labels, own == val.labels)
    recalls = dict[str, float]()
    if not is_finite:
        verdict, reason = "refused", "it answers logits that are not finite"
    else:
        match precision:
            case "fp32":
                unequal = sum(_unequal(each, by) for each, by in ((val.logits, logits), (noise.logits, on_noise)))
                verdict, reason = _fp32(relative, unequal)
            case "fp16" | "bf16":
                verdict, reason = _half(float((own == model).mean()))
            case "int8":
                verdict, reason = int8_verdict(changes, int8_max_loss)
        judged = judge_answers(reference.point, logits, val.labels, reference.classes, reference.recalls)
        recalls = {name: judged.classes[name].recall for name in reference.recalls}
        if verdict != "refused" and judged.missed_recalls:
            missed = ", ".join(judged.missed_recalls.values())
            verdict, reason = "refused", f"on val {missed}: ask for more, so that a lower threshold leaves it room"
    return Parity(
        verdict=verdict,
        reason=reason,
        samples=len(val.labels),
        top1=f1["top1"],
        top1_difference=changes.loss,
        top1_difference_interval=changes.interval(),
        macro_f1=f1["macro_f1"],
        macro_f1_difference=model_f1["macro_f1"] - f1["macro_f1"],
        agreement=float((own == model).mean()),
        agreement_on_noise=float((on_noise.argmax(axis=1) == noise.logits.argmax(axis=1)).mean()),
        max_logit_difference=_finite(float(difference.max())),
        mean_logit_difference=_finite(float(difference.mean())),
        relative_logit_difference=_finite(relative),
        calibration_error=expected_calibration_error(reference.point.probabilities(logits), val.labels)
        if is_finite
        else 1.0,
        megabytes=size_bytes / 1e6,
        milliseconds=_milliseconds(engine, val.images[:1]),
        recalls=recalls,
    )


def int8_verdict(changes: Changes, most: float) -> tuple[Verdict, str]:
    """By the loss of top-1 and its interval: refused where all of that is above `most`, a share."""
    low, high = changes.interval()
    numbers = f"top-1 falls by {100 * changes.loss:.2f} points ({100 * low:.2f} .. {100 * high:.2f})"
    limit = f"{100 * most:.2f} are allowed"
    if low > most:
        return "refused", f"{numbers}, {limit}"
    if high <= most:
        return "passed", ""
    needed = changes.samples_to_tell(most)
    if needed is None:
        return "inconclusive", f"{numbers}, {limit}: the loss is too near to that to tell"
    return "inconclusive", (
        f"{numbers}, {limit}: val has {changes.samples} images, and it takes some {needed} like these to tell "
        f"({needed - changes.samples} more)"
    )


def _fp32(relative: float, unequal: int) -> tuple[Verdict, str]:
    if unequal or relative > RELATIVE_LOGITS:
        return "refused", (
            f"{unequal} images are answered otherwise (0 are allowed) and logits differ by {relative:.1e} of the "
            f"largest ({RELATIVE_LOGITS:.0e} are allowed)"
        )
    return "passed", ""


def _half(agreement: float) -> tuple[Verdict, str]:
    if agreement < HALF_AGREEMENT:
        return "refused", f"{100 * agreement:.2f} % of val are answered alike, {100 * HALF_AGREEMENT} % are asked for"
    return "passed", ""


def _unequal(model: NDArray[np.float32], by: NDArray[np.float32]) -> int:
    """Rows answered otherwise, but for ties: answers that the model itself holds equal within the tolerance."""
    rows = np.arange(len(model))
    behind = model.max(axis=1) - model[rows, by.argmax(axis=1)]
    return int((behind > 2 * RELATIVE_LOGITS * np.abs(model).max()).sum())


def _milliseconds(engine: Engine, image: NDArray[np.uint8]) -> float:
    engine(image)
    times: list[float] = []
    for _ in range(_TIMED):
        begin = perf_counter()
        engine(image)
        times.append(perf_counter() - begin)
    return 1000 * float(np.median(times))


def _finite(value: float) -> float:
    """JSON has no infinity."""
    return value if np.isfinite(value) else float(np.finfo(np.float64).max)
