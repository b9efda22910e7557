"""A teacher's answers, computed once for all trainings that learn from it, beside the features of their trunks."""

import threading
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_dist.features.reuse import Counts, FeatureReuse

Place = tuple[int, int, int]
"""Epoch, step in the epoch, and place in the step of a microbatch."""


class SharedAnswers:
    """What a source and a training step ask where a teacher's answers are kept.

    `answers` keeps those, in float32 always, and `features` what the frozen trunk gives. A microbatch needs no images
    only where both are known. An answer that was read ahead is held until the step takes it.
    """

    def __init__(self, answers: FeatureReuse, features: FeatureReuse) -> None:
        self._answers = answers
        self._features = features
        # Sources ask ahead, in threads of their own.
        self._holding = threading.Lock()
        self._held: dict[Place, torch.Tensor] = {}

    @property
    def counts(self) -> Counts:
        """Of answers and features together."""
        return self._answers.counts + self._features.counts

    def begin(self, teacher: torch.nn.Module) -> None:
        """An epoch begins: answers are those of `teacher`, and what an earlier epoch did not take is let go."""
        self._answers.begin(teacher)
        with self._holding:
            self._held.clear()

    def close(self) -> None:
        """Let go of answers and features, which may then make room for others."""
        self._answers.close()
        self._features.close()

    def cached_microbatch(self, epoch: int, step: int, index: int) -> torch.Tensor | None:
        """Stored features of a microbatch whose answer is stored too; from any thread."""
        place = epoch, step, index
        answer = self._answers.cached_microbatch(*place)
        if answer is None:
            return None
        with self._holding:
            self._held[place] = answer
        return self._features.cached_microbatch(*place)

    def cached_batch(self, rows: NDArray[np.int64]) -> torch.Tensor | None:
        """Stored features of a validation batch, which needs no answers; from any thread."""
        return self._features.cached_batch(rows)

    def of_microbatch(self, place: Place, compute: Callable[[], torch.Tensor], waited: float) -> torch.Tensor:
        """The answer to a microbatch: the one held, or another training's, or computed and stored.

        `waited` as in `FeatureReuse.of_microbatch`.
        """
        with self._holding:
            held = self._held.pop(place, None)
        return self._answers.of_microbatch(*place, compute, waited) if held is None else held
