"""Dropout whose mask is keyed by sample and feature, so that it is the same wherever the sample is computed."""

import numpy as np
import torch
from numpy.typing import NDArray

_LANES = 65536


def keep_mask(bits: NDArray[np.uint64], features: int, probability: float) -> torch.Tensor:
    """float32 [B, features]: 0 with `probability` (a multiple of 1/65536, rounded), else 1 / (1 - probability).

    `bits`: uint64 [B, at least features / 4], each sample's own; a 64-bit word serves four features.
    """
    lanes = np.ascontiguousarray(bits).astype("<u8", copy=False).view("<u2")[:, :features]
    dropped = round(probability * _LANES)
    kept = (lanes >= dropped).astype(np.float32) * np.float32(_LANES / (_LANES - dropped))
    return torch.from_numpy(kept)
