"""What the sources yield: microbatches of a training step, batches of a validation pass."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageMicrobatch:
    """The unit of work: one forward and backward pass on one rank."""

    index: int
    """Place in the step's global order, 0 .. step.microbatch_count - 1."""
    images: torch.Tensor
    """float32 [B, 3, height, width], normalised, channels_last, on the source's device."""
    labels: torch.Tensor
    """int64 [B] on the source's device."""
    keys: NDArray[np.uint64]
    """[B] sample keys; a sample that comes again within an epoch has another key each time (`occurrence_keys`)."""
    features: torch.Tensor | None = None
    """What was known of the microbatch, in place of its images, which are then of shape [0, 3, height, width]."""


@dataclass(frozen=True)
class ImageStep:
    """One optimizer step as a rank sees it."""

    index: int
    """Place in the epoch."""
    samples: int
    """Samples of the global batch, over all ranks."""
    microbatch_count: int
    """Microbatches of the global batch, over all ranks."""
    microbatches: Iterator[ImageMicrobatch]
    """Those of this rank, rank, rank + world_size, ... in global order; may be none. Consume before the next step."""


@dataclass(frozen=True)
class ImageBatch:
    """A fixed batch of a split, the same at any worker count."""

    rows: NDArray[np.int64]
    """[B] positions in the split."""
    images: torch.Tensor
    """float32 [B, 3, height, width], normalised, channels_last, on the source's device."""
    labels: torch.Tensor
    """int64 [B] on the source's device."""
    features: torch.Tensor | None = None
    """What was known of the batch, in place of its images, which are then of shape [0, 3, height, width]."""
