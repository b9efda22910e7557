"""Which microbatch size comes next where one did not fit. Torch-free: whoever orders a restart asks it, too."""

from resnet_dist.errors import RunError

SMALLEST = 2
"""BatchNorm has no statistics of one sample."""


class MicrobatchTooLargeError(Exception):
    """A rank ran out of memory in the middle of training: its worker group ends and starts again with less."""

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
