"""What `fit` asks of a source of batches; sources match structurally."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class Microbatch(Protocol):
    """The unit of work: one forward and backward pass on one rank."""

    @property
    def index(self) -> int:
        """Place in the step's global order."""
        ...

    @property
    def images(self) -> torch.Tensor:
        """float32 [B, 3, height, width], normalised, channels_last, on the model's device; with B = 0 where the
        features are known.
        """
        ...

    @property
    def features(self) -> torch.Tensor | None:
        """What the trunk makes of the images, on the model's device, where it is known already."""
        ...

    @property
    def labels(self) -> torch.Tensor:
        """int64 [B] on the model's device."""
        ...

    @property
    def keys(self) -> NDArray[np.uint64]:
        """[B] sample keys, that random draws are keyed by."""
        ...


class Step(Protocol):
    """One optimizer step as a rank sees it."""

    @property
    def index(self) -> int:
        """Place in the epoch."""
        ...

    @property
    def samples(self) -> int:
        """Samples of the global batch, over all ranks."""
        ...

    @property
    def microbatch_count(self) -> int:
        """Microbatches of the global batch, over all ranks."""
        ...

    @property
    def microbatches(self) -> Iterator[Microbatch]:
        """This rank's microbatches in global order; may be none."""
        ...


class TrainingSource(Protocol):
    """The training split, epoch by epoch."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        ...

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Step]:
        """The steps of an epoch from `first_step` on: a pure function of its arguments."""
        ...

    def sample_ids(self, epoch: int, step: int) -> list[str]:
        """Names of a step's samples, over all ranks, in their order."""
        ...


class EvaluationBatch(Protocol):
    """A fixed batch of a split, the same at any worker count."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """[B] positions in the split."""
        ...

    @property
    def images(self) -> torch.Tensor:
        """float32 [B, 3, height, width], normalised, channels_last, on the model's device; with B = 0 where the
        features are known.
        """
        ...

    @property
    def features(self) -> torch.Tensor | None:
        """What the trunk makes of the images, on the model's device, where it is known already."""
        ...

    @property
    def labels(self) -> torch.Tensor:
        """int64 [B] on the model's device."""
        ...


class EvaluationSource(Protocol):
    """A split that is judged."""

    @property
    def samples(self) -> int:
        """Samples of the split, over all ranks."""
        ...

    def batches(self) -> Iterator[EvaluationBatch]:
        """This rank's batches: every world_size-th of the split's fixed ones, from rank on."""
        ...
