"""Batches of a dataset: which samples and views come when is decided here, for every backend alike.

A backend is a `Renderer`: it turns requests (rows and their views) into images, in the order asked for, as far ahead as
it likes. So restart, worker count and prefetching cannot change what is trained on.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from data_pipeline.augmentation import Views, evaluation_views, training_views
from data_pipeline.batches import EvaluationBatch, Microbatch, Step
from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.order import EpochCut, MicrobatchCut, block_order, epoch_order, of_rank
from data_pipeline.samples import Samples


@dataclass(frozen=True)
class Request:
    """Some samples, each in one view."""

    rows: NDArray[np.int64]
    """[B] positions in the samples."""
    views: Views
    """B of them."""


class Renderer(Protocol):
    """Makes images; the only part of a source that differs between backends."""

    def render(self, requests: Iterator[Request]) -> Generator[torch.Tensor]:
        """For each request images float32 [B, 3, size, size], normalised, channels_last, on the source's device.

        Closing the generator early is fine. Another `render` may end one that is unfinished, which raises
        RuntimeError if it is taken up again.
        """
        ...

    def close(self) -> None:
        """Free threads and memory."""
        ...


@dataclass(frozen=True)
class TrainingSource:
    """The training split for one rank; a context manager."""

    data: DataConfig
    augmentation: AugmentationConfig
    seed: int
    samples: Samples
    cut: EpochCut
    rank: int
    world_size: int
    device: torch.device
    renderer: Renderer

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.cut.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Step]:
        """The steps of an epoch from `first_step` on, as this rank sees them: a pure function of its arguments."""
        order = self.order(epoch)
        mine = (cut for cuts in self.cut.from_step(first_step) for cut in of_rank(cuts, self.rank, self.world_size))
        rendered = self.renderer.render(self._request(epoch, order[cut.start : cut.stop]) for cut in mine)
        try:
            for cuts in self.cut.from_step(first_step):
                microbatches = self._microbatches(of_rank(cuts, self.rank, self.world_size), order, rendered)
                yield Step(cuts[0].step, sum(cut.size for cut in cuts), len(cuts), microbatches)
                # Left over by the consumer, they would be taken for the next step's.
                for _ in microbatches:
                    pass
        finally:
            rendered.close()

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The rows in the order in which an epoch visits them."""
        match self.data.order:
            case "full":
                return epoch_order(self.seed, epoch, self.samples.keys)
            case "blocks":
                return block_order(self.seed, epoch, self.samples.keys, self.data.block_rows, self.data.window_blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.renderer.close()

    def _request(self, epoch: int, rows: NDArray[np.int64]) -> Request:
        keys, sizes = self.samples.keys[rows], self.samples.sizes[rows]
        return Request(rows, training_views(self.data, self.augmentation, self.seed, epoch, keys, sizes))

    def _microbatches(
        self, cuts: list[MicrobatchCut], order: NDArray[np.int64], rendered: Iterator[torch.Tensor]
    ) -> Iterator[Microbatch]:
        for cut in cuts:
            rows = order[cut.start : cut.stop]
            yield Microbatch(cut.index, next(rendered), self._labels(rows), self.samples.keys[rows])

    def _labels(self, rows: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.samples.labels[rows]).to(self.device)


@dataclass(frozen=True)
class EvaluationSource:
    """A split for one rank, each image in its one evaluation view; a context manager."""

    data: DataConfig
    split: Samples
    batch_size: int
    rank: int
    world_size: int
    device: torch.device
    renderer: Renderer

    @property
    def samples(self) -> int:
        """Samples of the split, over all ranks."""
        return len(self.split)

    def batches(self) -> Iterator[EvaluationBatch]:
        """This rank's batches: every world_size-th of the split's fixed ones, from rank on."""
        starts = range(self.rank * self.batch_size, len(self.split), self.world_size * self.batch_size)
        all_rows = [np.arange(first, min(first + self.batch_size, len(self.split))) for first in starts]
        rendered = self.renderer.render(
            Request(rows, evaluation_views(self.data, self.split.sizes[rows])) for rows in all_rows
        )
        try:
            for rows in all_rows:
                labels = torch.from_numpy(self.split.labels[rows]).to(self.device)
                yield EvaluationBatch(rows, next(rendered), labels)
        finally:
            rendered.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.renderer.close()
