"""Dropout whose mask is keyed by sample and feature, so that it is the same wherever the sample is computed."""

import numpy as np
import torch
from numpy.typing import NDArray

_LANE_VALUES = 65536
FEATURES_PER_WORD = 4
"""A 64-bit word serves four features with 16 bits each."""


def words_needed(features: int) -> int:
    """64-bit words of randomness that a sample uses."""
    return -(-features // FEATURES_PER_WORD)


def keep_mask(bits: NDArray[np.uint64], features: int, probability: float) -> torch.Tensor:
    """float32 [B, features]: 0 with `probability`, else 1 / (1 - probability), so that the mean is 1.

    `bits`: uint64 [B, words_needed(features)], each sample's own. `probability` in [0, 1) is rounded to a multiple of
    1/65536, the last one below 1 at most.
    """
    if bits.shape[1] < words_needed(features):
        raise ValueError(f"{bits.shape[1]} words a sample for {features} features; draw {words_needed(features)}")
    lanes = np.ascontiguousarray(bits, dtype="<u8").view("<u2")[:, :features]
    dropped = min(round(probability * _LANE_VALUES), _LANE_VALUES - 1)
    scale = np.float32(_LANE_VALUES / (_LANE_VALUES - dropped))
    return torch.from_numpy((lanes >= dropped) * scale)
