"""The out-of-memory rule: a microbatch that does not fit is halved, on all ranks together.

Importing it does not load torch: a process that only decides on a restart needs the rule, and starts faster without.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from resnet_dist.errors import RunError

if TYPE_CHECKING:
    import torch

    from resnet_dist.training.rank_group import RankGroup

SMALLEST = 2
"""BatchNorm has no statistics of one sample."""

_MESSAGES = ("can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""Of torch's CPU allocator, of the CUDA driver, and of cuDNN and cuBLAS, which have no error types of their own."""


class MicrobatchTooLargeError(Exception):
    """A rank ran out of memory in the middle of training: its worker group ends and restarts with a smaller size."""

    def __init__(self, microbatch_size: int) -> None:
        super().__init__(f"out of memory with microbatches of {microbatch_size}")
        self.microbatch_size = microbatch_size

    def __reduce__(self) -> tuple[type["MicrobatchTooLargeError"], tuple[int]]:
        return type(self), (self.microbatch_size,)


def halved(microbatch_size: int, global_batch_size: int) -> int:
    """The largest even divisor of the global batch that is at most half of the size.

    Raises RunError where there is none.
    """
    for size in range(microbatch_size // 2 // 2 * 2, SMALLEST - 1, -2):
        if global_batch_size % size == 0:
            return size
    raise RunError(
        f"out of memory with microbatches of {microbatch_size}, and training.global_batch_size={global_batch_size} has "
        f"no smaller even divisor; use a smaller data.image_size or model.arch, freeze more stages, or set "
        "training.activation_checkpointing"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the CPU."""
    import torch  # noqa: PLC0415

    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)
    )


def largest_that_fits(
    microbatch_size: int,
    global_batch_size: int,
    group: "RankGroup",
    device: "torch.device",
    attempt: Callable[[int], None],
) -> int:
    """`microbatch_size`, halved until `attempt` of it runs out of memory on no rank. Collective.

    `attempt` computes one microbatch of that size and must itself not be collective: a rank that fails in it must
    not leave the others waiting. Raises RunError when not even the smallest one fits.
    """
    import torch  # noqa: PLC0415

    size = microbatch_size
    while True:
        fits = _fits(size, device, attempt)
        failed = torch.tensor([0.0 if fits else 1.0], device=device)
        group.sum_(failed)
        if not failed.item():
            return size
        size = halved(size, global_batch_size)


def _fits(size: int, device: "torch.device", attempt: Callable[[int], None]) -> bool:
    import torch  # noqa: PLC0415

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
