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

from data_pipeline.config import DataConfig
from data_pipeline.listing.samples import Samples
from data_pipeline.sources.batches import ImageBatch, ImageMicrobatch, ImageStep
from data_pipeline.sources.cached_features import CachedBatch, CachedMicrobatch, Content, cached_or_rendered
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.views.augmentation import Views, evaluation_views, training_views
from data_pipeline.views.order import (
    EpochCut,
    MicrobatchCut,
    balanced_order,
    block_order,
    epoch_order,
    occurrence_keys,
    of_rank,
)


@dataclass(frozen=True)
class Request:
    """Some samples, each in one view."""

    rows: NDArray[np.int64]
    """[B] positions in the samples."""
    views: Views
    """B of them."""


@dataclass(frozen=True)
class Visits:
    """Which samples come one after the other."""

    rows: NDArray[np.int64]
    """[N] positions in the samples."""
    keys: NDArray[np.uint64]
    """[N] what everything drawn for a visit is keyed by: the sample's key, another for each repeat in an epoch."""

    def of(self, cut: MicrobatchCut) -> "Visits":
        """Those of one microbatch."""
        return Visits(self.rows[cut.start : cut.stop], self.keys[cut.start : cut.stop])


class Renderer(Protocol):
    """Makes images; the only part of a source that differs between backends."""

    def render(self, requests: Iterator[Request]) -> Generator[torch.Tensor]:
        """For each request images float32 [B, 3, height, width], normalised, channels_last, on the source's device.

        Closing the generator early is fine. Another `render` may end one that is unfinished, which raises
        RuntimeError if it is taken up again.
        """
        ...

    def close(self) -> None:
        """Free threads and memory."""
        ...


class _OwnsRenderer:
    """A context manager that frees its renderer's threads and memory."""

    renderer: Renderer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.renderer.close()


@dataclass(frozen=True)
class TrainingImages(_OwnsRenderer):
    """The training split for one rank; a context manager."""

    spec: SourceSpec
    samples: Samples
    cut: EpochCut
    share: RankShare
    renderer: Renderer
    cached: CachedMicrobatch | None = None
    """Features of microbatches that need no images; None: all need them."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.cut.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ImageStep]:
        """The steps of an epoch from `first_step` on, as this rank sees them: a pure function of its arguments."""
        visits = self.visits(epoch)
        mine = (cut for cuts in self.cut.from_step(first_step) for cut in self._owned(cuts))
        rendered = cached_or_rendered(
            mine,
            lambda cut: None if self.cached is None else self.cached(epoch, cut.step, cut.index),
            lambda cut: self._request(epoch, visits.of(cut)),
            self.renderer.render,
            _no_images(self.spec.data, self.share.device),
        )
        try:
            for cuts in self.cut.from_step(first_step):
                microbatches = self._microbatches(self._owned(cuts), visits, rendered)
                yield ImageStep(cuts[0].step, sum(cut.size for cut in cuts), len(cuts), microbatches)
                # Left over by the consumer, they would be taken for the next step's.
                for _ in microbatches:
                    pass
        finally:
            rendered.close()

    def sample_ids(self, epoch: int, step: int) -> list[str]:
        """Names of a step's samples, over all ranks, in their order."""
        cuts = self.cut.step(step)
        rows = self.visits(epoch).rows[cuts[0].start : cuts[-1].stop]
        return [self.samples.sample_ids[row] for row in rows.tolist()]

    def visits(self, epoch: int) -> "Visits":
        """What an epoch visits, in order, by `data.sampling` and `data.order`."""
        data, seed, keys = self.spec.data, self.spec.seed, self.samples.keys
        if data.sampling == "balanced":
            rows, occurrences = balanced_order(seed, epoch, keys, self.samples.labels)
            return Visits(rows, occurrence_keys(keys[rows], occurrences))
        match data.order:
            case "full":
                rows = epoch_order(seed, epoch, keys)
            case "blocks":
                rows = block_order(seed, epoch, keys, data.block_rows, data.window_blocks)
        return Visits(rows, keys[rows])

    def _owned(self, cuts: list[MicrobatchCut]) -> list[MicrobatchCut]:
        return of_rank(cuts, self.share.rank, self.share.world_size)

    def _request(self, epoch: int, visits: "Visits") -> Request:
        spec, sizes = self.spec, self.samples.sizes[visits.rows]
        views = training_views(spec.data, spec.augmentation, spec.seed, epoch, visits.keys, sizes)
        return Request(visits.rows, views)

    def _microbatches(
        self, cuts: list[MicrobatchCut], visits: "Visits", rendered: Iterator[Content]
    ) -> Iterator[ImageMicrobatch]:
        for cut in cuts:
            part, content = visits.of(cut), next(rendered)
            yield ImageMicrobatch(cut.index, content.images, self._labels(part.rows), part.keys, content.features)

    def _labels(self, rows: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self.samples.labels[rows]).to(self.share.device)


@dataclass(frozen=True)
class EvaluationImages(_OwnsRenderer):
    """A split for one rank, each image in its one evaluation view; a context manager."""

    spec: SourceSpec
    split: Samples
    batch_size: int
    share: RankShare
    renderer: Renderer
    cached: CachedBatch | None = None
    """Features of batches that need no images; None: all need them."""

    @property
    def samples(self) -> int:
        """Samples of the split, over all ranks."""
        return len(self.split)

    def batches(self) -> Iterator[ImageBatch]:
        """This rank's batches: every world_size-th of the split's fixed ones, from rank on."""
        data, share = self.spec.data, self.share
        starts = range(share.rank * self.batch_size, len(self.split), share.world_size * self.batch_size)
        all_rows = [np.arange(first, min(first + self.batch_size, len(self.split))) for first in starts]
        rendered = cached_or_rendered(
            iter(all_rows),
            lambda rows: None if self.cached is None else self.cached(rows),
            lambda rows: Request(rows, evaluation_views(data, self.split.sizes[rows])),
            self.renderer.render,
            _no_images(data, share.device),
        )
        try:
            for rows in all_rows:
                labels = torch.from_numpy(self.split.labels[rows]).to(share.device)
                content = next(rendered)
                yield ImageBatch(rows, content.images, labels, content.features)
        finally:
            rendered.close()


def _no_images(data: DataConfig, device: torch.device) -> torch.Tensor:
    return torch.empty((0, 3, *data.input_size), device=device)
