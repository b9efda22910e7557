"""The one place that chooses between backends."""

from typing import assert_never

import numpy as np
import torch

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.samples import Samples
from data_pipeline.sources.batching import EvaluationImages, Renderer, TrainingImages
from data_pipeline.sources.cached_features import CachedBatch, CachedMicrobatch
from data_pipeline.sources.reference_source import ReferenceRenderer
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.sources.synthetic_source import SyntheticRenderer
from data_pipeline.views.augmentation import evaluation_views
from data_pipeline.views.order import EpochCut


def training_source(
    spec: SourceSpec,
    samples: Samples,
    global_batch_size: int,
    microbatch_size: int,
    share: RankShare,
    cached: CachedMicrobatch | None = None,
) -> TrainingImages:
    """The training split for one rank; a context manager. `cached` gives features that replace images."""
    cut = EpochCut(len(samples), global_batch_size, microbatch_size, spec.data.drop_last)
    if not cut.steps:
        raise DataError(
            f"{len(samples)} training images make no global batch of {global_batch_size} (training.global_batch_size) "
            "with data.drop_last; lower it or keep the last batch"
        )
    renderer = _renderer(spec, samples, cut.largest_microbatch, share.device, training=True)
    return TrainingImages(spec, samples, cut, share, renderer, cached)


def evaluation_source(
    spec: SourceSpec, samples: Samples, batch_size: int, share: RankShare, cached: CachedBatch | None = None
) -> EvaluationImages:
    """A split for one rank, each image in its evaluation view; a context manager.

    `cached` gives features that replace images.
    """
    if spec.data.source != "synthetic":
        _refuse_too_narrow(spec.data, samples)
    renderer = _renderer(spec, samples, min(batch_size, max(len(samples), 1)), share.device, training=False)
    return EvaluationImages(spec, samples, batch_size, share, renderer, cached)


def _refuse_too_narrow(data: DataConfig, samples: Samples) -> None:
    """A strip whose shorter side is enlarged to the model's size may not fit in memory."""
    inner = evaluation_views(data, samples.sizes).inner.astype(np.int64)
    for row in np.flatnonzero(inner.prod(axis=1) > data.max_pixels).tolist():
        size, resized = ("x".join(map(str, sides)) for sides in (samples.sizes[row], inner[row]))
        raise DataError(
            f"{samples.sample_ids[row]!r} is {size} pixels, and data.resize={data.resize!r} makes {resized} of it, "
            f'more than data.max_pixels={data.max_pixels}; leave it out, or use data.resize="letterbox"'
        )


def _renderer(spec: SourceSpec, samples: Samples, batch_size: int, device: torch.device, *, training: bool) -> Renderer:
    data = spec.data
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
            operators = Operators.of_training(spec.augmentation) if training else Operators.of_evaluation(data)
            return DaliRenderer(data, samples, operators, batch_size, device, spec.threads, spec.decode)
        case "reference":
            return ReferenceRenderer(data, samples, device, spec.decode)
        case "synthetic":
            return SyntheticRenderer(data, samples, device)
        case _:
            assert_never(data.source)
