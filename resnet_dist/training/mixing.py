"""Mixing of neighbouring samples: pairs (2k, 2k + 1) of the global batch, with a factor keyed by the pair.

Microbatches have an even size, so a pair never spans two of them and every worker count mixes alike; the last sample
of a microbatch of odd size stays as it is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_TRIES = 5
_GAMMA_WORDS = 3 * _TRIES + 1
MIXING_WORDS = 2 * _GAMMA_WORDS
"""64-bit words of randomness a pair uses."""


@dataclass(frozen=True)
class Mix:
    """How each of B samples is mixed: factor * itself + (1 - factor) * its partner."""

    partner: torch.Tensor
    """int64 [B] position of the partner in the microbatch; a sample without one is its own."""
    factor: torch.Tensor
    """float32 [B] in 0..1."""

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """Mixed images, same shape, dtype and memory format."""
        factor = self.factor.to(images.dtype).reshape(-1, 1, 1, 1)
        return torch.lerp(images[self.partner], images, factor)


def pair_keys(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """uint64 [B // 2]: a key for each pair, from the keys [B] of its two samples."""
    first, second = keys[0 : len(keys) // 2 * 2 : 2], keys[1::2]
    return first ^ ((second << np.uint64(1)) | (second >> np.uint64(63)))


def mixup(alpha: float, bits: NDArray[np.uint64], samples: int, device: torch.device) -> Mix:
    """Mixup's factors from Beta(alpha, alpha). `bits`: uint64 [samples // 2, MIXING_WORDS], the pairs' own."""
    partner = np.arange(samples) ^ 1
    if samples % 2:
        partner[-1] = samples - 1
    factor = np.ones(samples)
    factor[: samples // 2 * 2] = np.repeat(_beta(alpha, bits), 2)
    return Mix(
        partner=torch.from_numpy(partner).to(device, torch.int64),
        factor=torch.from_numpy(factor).to(device, torch.float32),
    )


def _beta(alpha: float, bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Beta(alpha, alpha) as a ratio of two gammas, each from half of the words."""
    numbers = np.maximum((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53, 2.0**-54)
    log_first = _log_gamma_variate(alpha, numbers[:, :_GAMMA_WORDS])
    log_second = _log_gamma_variate(alpha, numbers[:, _GAMMA_WORDS:])
    # In logarithms: with a small alpha both variates may lie below the smallest float.
    return 1.0 / (1.0 + np.exp(np.clip(log_second - log_first, -700.0, 700.0)))


def _log_gamma_variate(alpha: float, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of a Gamma(alpha) variate a row (Marsaglia and Tsang, "A simple method for generating gamma
    variables", 2000) with their boost for alpha below one.

    The method tries until a proposal is accepted, each with more than 0.95; here a fixed number of words serves
    five tries, and in the one case of three million in which none is accepted the last proposal is taken.
    """
    shape = alpha + 1.0 - 1.0 / 3.0
    scale = 1.0 / (9.0 * shape) ** 0.5
    accepted = np.zeros(len(numbers), dtype=np.bool_)
    result = np.zeros(len(numbers))
    for first in range(0, 3 * _TRIES, 3):
        uniform, angle, accept = (numbers[:, first + i] for i in range(3))
        normal = np.sqrt(-2.0 * np.log(uniform)) * np.cos(2.0 * np.pi * angle)
        cube = np.maximum(1.0 + scale * normal, 1e-3) ** 3
        good = np.log(accept) < 0.5 * normal**2 + shape * (1.0 - cube + np.log(cube))
        result = np.where(accepted, result, np.log(shape * cube))
        accepted |= good
    return result + np.log(numbers[:, -1]) / alpha
