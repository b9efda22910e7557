"""How far probabilities can be believed: temperature scaling and the calibration error."""

import numpy as np
from numpy.typing import NDArray

from resnet_dist.evaluation.metrics import log_losses

LOWEST, HIGHEST = 0.05, 20.0
"""Bounds of a temperature."""
_BINS = 15
_STEPS = 60


def fit_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature in LOWEST..HIGHEST of least log loss of logits [N, C] against labels [N].

    Guo et al., "On Calibration of Modern Neural Networks" (arXiv:1706.04599), with targets as in Platt, "Probabilistic
    Outputs for Support Vector Machines" (1999): a label is certain to (N + 1) / (N + 2), the other classes share the
    rest. Else any split without an error would have the temperature 0, and no image would ever be doubtful. The loss
    has one minimum as a function of the inverse temperature, found by bisection of its derivative. Raises RunError when
    a logit is not finite.
    """
    log_losses(logits, labels)
    values = logits.astype(np.float64)
    doubt = 1 / (len(labels) + 2)
    own = values[np.arange(len(labels)), labels]
    others = (values.sum(axis=1) - own) / max(values.shape[1] - 1, 1)
    target = (1 - doubt) * own + doubt * others

    def slope(inverse: float) -> float:
        scaled = inverse * values
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return float((((powers / powers.sum(axis=1, keepdims=True)) * values).sum(axis=1) - target).mean())

    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(high) <= 0.0:
        return LOWEST
    if slope(low) >= 0.0:
        return HIGHEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0.0 else (low, middle)
    return 2 / (low + high)


def expected_calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean distance of confidence and accuracy over 15 bins of equal width, weighted by samples; in 0..1.

    Of probabilities [N, C] and labels [N]. Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian
    Binning" (2015).
    """
    confidence = probabilities.max(axis=1)
    is_right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    distance = np.bincount(bins, is_right - confidence, minlength=_BINS)
    return float(np.abs(distance).sum() / len(labels))
