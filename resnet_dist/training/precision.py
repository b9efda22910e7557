"""Mixed precision: float32 weights, and arithmetic in a shorter type where torch deems it safe."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_dtype(precision: Literal["fp32", "bf16", "fp16"]) -> torch.dtype | None:
    """The type for `autocast`; None for float32 throughout."""
    return _DTYPES[precision]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Within, convolutions and matrix products are computed in `dtype`; with None nothing changes."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)
