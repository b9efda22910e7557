"""How runtimes want 8-bit graphs written: no single file runs wholly in integers everywhere. Numpy alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""A tensor that is always zero has a scale all the same."""


@dataclass(frozen=True)
class Quantiser:
    """A tensor's values are (q - zero_point) * scale, q in `kind`."""

    scale: np.float32
    zero_point: int
    kind: "np.dtype[np.uint8] | np.dtype[np.int8]"


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of a tensor."""

    low: float
    high: float


@dataclass(frozen=True)
class Dialect:
    """One way to write them."""

    is_signed: bool
    """Activations are int8 with zero point 0; else uint8, whose zero point is 0 where no value is negative."""
    has_quantised_bias: bool
    """int32, in steps of input times weight."""
    quantises_results: bool
    """Each convolution's result; else what the next one takes, and both inputs of an addition."""

    def quantiser(self, values: Range) -> Quantiser:
        """For values of a range; zero is a step of it."""
        low, high = min(values.low, 0.0), max(values.high, 0.0)
        if self.is_signed:
            return Quantiser(_scale(max(-low, high) / 127), 0, np.dtype(np.int8))
        scale = _scale((high - low) / 255)
        return Quantiser(scale, round(-low / float(scale)), np.dtype(np.uint8))


CPU = Dialect(is_signed=False, has_quantised_bias=True, quantises_results=True)
"""ONNX Runtime on x86 and ARM, and OpenVINO. ONNX Runtime drops a ReLU only behind uint8 with zero point 0."""
TENSORRT = Dialect(is_signed=True, has_quantised_bias=False, quantises_results=False)
"""TensorRT: it knows no zero points."""


def quantised_weights(
    weights: NDArray[np.float32], bits: int, least: NDArray[np.float64] | float = LEAST_SCALE
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 [outputs, ...] of weights [outputs, ...], and the scale [outputs] of each output, `least` or more.

    With 8 bits in -127 .. 127, with 7 in -63 .. 63: on x86 without 8-bit dot products two products of 8 bits would
    overflow the 16-bit sum.
    """
    most = 2 ** (bits - 1) - 1
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    scales = np.maximum(np.maximum(largest / most, least), LEAST_SCALE).astype(np.float32)
    steps: NDArray[np.floating] = np.round(weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    return np.clip(steps, -most, most).astype(np.int8), scales


def _scale(step: float) -> np.float32:
    return np.float32(max(step, LEAST_SCALE))
