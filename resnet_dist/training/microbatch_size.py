"""The out-of-memory rule: a microbatch that does not fit is halved, on all ranks together."""

from collections.abc import Callable

import torch

from resnet_dist.training.halving import halved
from resnet_dist.training.rank_group import Group

_SAYINGS = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""Of torch's CPU allocator, of the CUDA driver, and of cuDNN and cuBLAS, which have no error types of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS)
    )


def largest_that_fits(
    microbatch_size: int, global_batch_size: int, group: Group, device: torch.device, attempt: Callable[[int], None]
) -> int:
    """`microbatch_size`, halved until `attempt` of it runs out of memory on no rank. Collective.

    `attempt` computes one microbatch of that size and must itself not be collective: a rank that fails in it must
    not leave the others waiting. Raises RunError when not even the smallest one fits.
    """
    size = microbatch_size
    while True:
        fits = _fits(size, device, attempt)
        failed = torch.tensor([0.0 if fits else 1.0], device=device)
        group.sum_(failed)
        if not failed.item():
            return size
        size = halved(size, global_batch_size)


def _fits(size: int, device: torch.device, attempt: Callable[[int], None]) -> bool:
    try:
        attempt(size)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return True
