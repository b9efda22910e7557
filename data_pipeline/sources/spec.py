"""What a source is made of, and for which rank, as two values."""

from dataclasses import dataclass, field

import torch

from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.listing.samples import Decode


@dataclass(frozen=True)
class SourceSpec:
    """How images are read and what is seen of them; the same on every rank."""

    data: DataConfig
    decode: Decode
    """The reference, for files that decoders do not read alike and for `data.source="reference"`."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """How training images vary; evaluation ignores it."""
    seed: int = 0
    threads: int = 1
    """CPU threads that read and decode."""


@dataclass(frozen=True)
class RankShare:
    """The part of the microbatches that one rank computes, and where: by default all of them, on the CPU."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
