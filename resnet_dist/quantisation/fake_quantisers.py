"""Fake quantisers: they round values in floating point to those that 8 bits have, and let gradients through.

The gradient of the rounding is that of the identity, and zero where a value lies outside the range (the
straight-through estimator, arXiv:1308.3432). Values are rounded as `dialect.CPU` rounds them in files, but
for ties, which may fall to the other side.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from math import inf, isfinite

import torch
from torch import nn

from resnet_dist.errors import RunError
from resnet_dist.quantisation.dialect import CPU, LEAST_SCALE, Range

WEIGHT_BITS = 8
_MOST_WEIGHT = 2 ** (WEIGHT_BITS - 1) - 1
_MOST_ACTIVATION = 255


class FakeQuantiser(nn.Module):
    """Rounds a tensor to 256 steps of a range; in fp32, since bfloat16 has no more digits than the steps."""

    def __init__(self, values: Range, *, before_relu: bool = False) -> None:
        super().__init__()
        self.before_relu = before_relu
        """Whether a ReLU follows: no step is spent on what it drops."""
        self.watched: Range | None = None
        """The range of what passes, unrounded, while `watching`; None: values are rounded."""
        self.values = values

    @property
    def values(self) -> Range:
        """The smallest and the largest value that is kept."""
        return self._values

    @values.setter
    def values(self, values: Range) -> None:
        if self.before_relu:
            values = Range(max(values.low, 0.0), max(values.high, 0.0))
        found = CPU.quantiser(values)
        # Numbers rather than buffers: a state_dict is that of the plain network.
        self._values, self._scale, self._zero_point = values, float(found.scale), found.zero_point

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        """float32 of the tensor's shape."""
        tensor = tensor.float()
        if self.watched is not None:
            low, high = (float(each) for each in torch.aminmax(tensor.detach()))
            if not (isfinite(low) and isfinite(high)):
                low, high = -inf, inf
            self.watched = Range(min(self.watched.low, low), max(self.watched.high, high))
            return tensor
        return torch.fake_quantize_per_tensor_affine(tensor, self._scale, self._zero_point, 0, _MOST_ACTIVATION)

    def extra_repr(self) -> str:
        """What its name does not tell."""
        return f"low={self._values.low:g}, high={self._values.high:g}"


@contextmanager
def watching(quantisers: Iterable[FakeQuantiser]) -> Generator[None]:
    """Within, nothing is rounded and extremes are collected; after it they are the ranges.

    Raises RunError where nothing passed, or values were not finite; then ranges are as they were.
    """
    quantisers = list(quantisers)
    for each in quantisers:
        each.watched = Range(inf, -inf)
    try:
        yield
        found = [each.watched for each in quantisers]
    finally:
        for each in quantisers:
            each.watched = None
    for seen in found:
        if seen is None or not -inf < seen.low <= seen.high < inf:
            raise RunError(
                "a range cannot be taken from no values, or from some that are not finite; train the run anew that "
                "model.weights names, or look at its images: resnet-dist evaluate"
            )
    for each, seen in zip(quantisers, found, strict=True):
        each.values = seen or each.values


def fake_quantised_weights(weights: torch.Tensor) -> torch.Tensor:
    """Weights [outputs, ...] of any float dtype, rounded to int8 with a scale for each output: float32."""
    weights = weights.float()
    scales = (weights.detach().abs().flatten(1).amax(1) / _MOST_WEIGHT).clamp(min=LEAST_SCALE)
    zero_points = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weights, scales, zero_points, 0, -_MOST_WEIGHT, _MOST_WEIGHT)
