"""Images without files: noise around a pattern of the class, for tests and benchmarks of everything else."""

from collections.abc import Generator, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from data_pipeline.config import DataConfig
from data_pipeline.listing.samples import Samples, key_of
from data_pipeline.sources.batching import Request
from data_pipeline.views.randomness import Purpose, draw

_GRID = 8


class SyntheticRenderer:
    """Views are ignored: a sample looks the same in every epoch, by its key and label."""

    def __init__(self, data: DataConfig, samples: Samples, device: torch.device) -> None:
        self._size = data.input_size
        self._samples = samples
        self._device = device

    def render(self, requests: Iterator[Request]) -> Generator[torch.Tensor]:
        """Images of each request, see `Renderer`."""
        for request in requests:
            rows = request.rows
            images = synthetic_images(self._samples.keys[rows], self._samples.labels[rows], self._size)
            tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
            yield tensor.contiguous(memory_format=torch.channels_last).to(self._device)

    def close(self) -> None:
        """Nothing is held."""


def synthetic_samples(count: int, classes: int = 3, side: int = 32) -> Samples:
    """Rows for the synthetic source: labels take turns, and there are no files."""
    ids = tuple(f"{row}.png" for row in range(count))
    return Samples(
        root="/nowhere",
        classes=tuple(f"class {label}" for label in range(classes)),
        sample_ids=ids,
        keys=np.array([key_of(name) for name in ids], dtype=np.uint64),
        labels=np.arange(count, dtype=np.int64) % classes,
        sizes=np.full((count, 2), side, dtype=np.int32),
        plain=np.ones(count, dtype=np.bool_),
        content=ids,
    )


def synthetic_images(keys: NDArray[np.uint64], labels: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.float32]:
    """float32 [N, *size, 3] in about -2..2: a coarse pattern of the label plus a coarse one of the key."""
    label_keys = np.array([key_of(f"class {label}") for label in labels.tolist()], dtype=np.uint64)
    grids = np.add(_grids(label_keys), _grids(keys) / np.float32(2), dtype=np.float32)
    height, width = size
    return grids.repeat(-(-height // _GRID), axis=1).repeat(-(-width // _GRID), axis=2)[:, :height, :width]


def _grids(keys: NDArray[np.uint64]) -> NDArray[np.float32]:
    """float32 [N, _GRID, _GRID, 3] in -1..1, from 16 bits each."""
    words = draw(0, Purpose.SYNTHETIC, 0, keys, _GRID * _GRID * 3 // 4)
    lanes = np.ascontiguousarray(words).view("<u2").astype(np.float32)
    return (lanes / np.float32(32767.5) - np.float32(1.0)).reshape(len(keys), _GRID, _GRID, 3)
