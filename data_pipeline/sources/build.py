"""The one place that chooses between backends."""

from typing import assert_never

import numpy as np
import torch

from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.samples import Decode, Samples
from data_pipeline.sources.batching import EvaluationImages, Renderer, TrainingImages
from data_pipeline.sources.cached_features import CachedBatch, CachedMicrobatch
from data_pipeline.sources.reference_source import ReferenceRenderer
from data_pipeline.sources.synthetic_source import SyntheticRenderer
from data_pipeline.views.augmentation import evaluation_views
from data_pipeline.views.order import EpochCut


def training_source(
    data: DataConfig,
    augmentation: AugmentationConfig,
    seed: int,
    samples: Samples,
    global_batch_size: int,
    microbatch_size: int,
    rank: int,
    world_size: int,
    device: torch.device,
    threads: int,
    decode: Decode,
    cached: CachedMicrobatch | None = None,
) -> TrainingImages:
    """The training split for `rank` of `world_size`; a context manager. `cached` gives features that replace images."""
    cut = EpochCut(len(samples), global_batch_size, microbatch_size, data.drop_last)
    if not cut.steps:
        raise DataError(
            f"{len(samples)} training images make no global batch of {global_batch_size} (training.global_batch_size) "
            "with data.drop_last; lower it or keep the last batch"
        )
    renderer = _renderer(data, augmentation, samples, cut.largest_microbatch, device, threads, decode)
    return TrainingImages(data, augmentation, seed, samples, cut, rank, world_size, device, renderer, cached)


def evaluation_source(
    data: DataConfig,
    samples: Samples,
    batch_size: int,
    rank: int,
    world_size: int,
    device: torch.device,
    threads: int,
    decode: Decode,
    cached: CachedBatch | None = None,
) -> EvaluationImages:
    """A split for `rank` of `world_size`, each image in its evaluation view; a context manager.

    `cached` gives features that replace images.
    """
    if data.source != "synthetic":
        _refuse_too_narrow(data, samples)
    renderer = _renderer(data, None, samples, min(batch_size, max(len(samples), 1)), device, threads, decode)
    return EvaluationImages(data, samples, batch_size, rank, world_size, device, renderer, cached)


def _refuse_too_narrow(data: DataConfig, samples: Samples) -> None:
    """A strip whose shorter side is enlarged to the model's size may not fit in memory."""
    inner = evaluation_views(data, samples.sizes).inner.astype(np.int64)
    for row in np.flatnonzero(inner.prod(axis=1) > data.max_pixels).tolist():
        size, resized = ("x".join(map(str, sides)) for sides in (samples.sizes[row], inner[row]))
        raise DataError(
            f"{samples.sample_ids[row]!r} is {size} pixels, and data.resize={data.resize!r} makes {resized} of it, "
            f'more than data.max_pixels={data.max_pixels}; leave it out, or use data.resize="letterbox"'
        )


def _renderer(
    data: DataConfig,
    augmentation: AugmentationConfig | None,
    samples: Samples,
    batch_size: int,
    device: torch.device,
    threads: int,
    decode: Decode,
) -> Renderer:
    """`augmentation` None: for evaluation views."""
    match data.source:
        case "dali":
            try:
                from data_pipeline.sources.dali_graphs import Operators  # noqa: PLC0415 - DALI is only needed here
                from data_pipeline.sources.dali_source import DaliRenderer  # noqa: PLC0415
            except ImportError as error:
                raise DataError(
                    f'data.source="dali", and DALI cannot be loaded ({error}); install resnet-dist[train], or use '
                    'data.source="reference", which is slow'
                ) from error
            operators = Operators.of_evaluation(data) if augmentation is None else Operators.of_training(augmentation)
            return DaliRenderer(data, samples, operators, batch_size, device, threads, decode)
        case "reference":
            return ReferenceRenderer(data, samples, device, decode)
        case "synthetic":
            return SyntheticRenderer(data, samples, device)
        case _:
            assert_never(data.source)
