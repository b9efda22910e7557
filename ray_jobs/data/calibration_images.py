"""The training images that value ranges are taken from, at an export and at a training in 8 bits alike."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from data_pipeline.listing.samples import Samples
from data_pipeline.views.randomness import Purpose, draw
from ray_jobs.data.evaluation_set import read_sample
from ray_jobs.job.config import JobConfig
from ray_jobs.job.preprocessing import preprocess_of
from resnet_dist.export.config import ExportConfig
from resnet_dist.runtime.engines import usable_cores
from resnet_dist.runtime.preprocess import Preprocess

BATCH = 16
"""Images of a forward pass."""
_IMAGES = ExportConfig().calibration_images
"""Of a training. An export may take others without becoming another one; a training may not."""


def calibration_samples(train: Samples, count: int, seed: int) -> Samples:
    """`count` of the training images, drawn by the job's seed."""
    order = np.argsort(draw(seed, Purpose.CALIBRATION, 0, train.keys, 1)[:, 0])
    return train.select(np.sort(order[:count]))


def each_image(preprocess: Preprocess, samples: Samples) -> Iterator[NDArray[np.uint8]]:
    """[height, width, 3] of each sample, as evaluation sees it. Raises DataError where a file has changed since it was
    indexed."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        yield from pool.map(partial(read_sample, preprocess, samples), range(len(samples)))


def read_images(preprocess: Preprocess, samples: Samples) -> NDArray[np.uint8]:
    """[N, height, width, 3]: `each_image`, all at once."""
    return np.stack(list(each_image(preprocess, samples)))


def calibration_batches(job: JobConfig, train: Samples, count: int | None = None) -> Iterator[torch.Tensor]:
    """Batches float32 [N, 3, height, width], normalised, of `count` images, by default those of a training."""
    preprocess = preprocess_of(job)
    images = read_images(preprocess, calibration_samples(train, count or _IMAGES, job.seed))
    for at in range(0, len(images), BATCH):
        yield torch.from_numpy(preprocess.normalise(images[at : at + BATCH])).permute(0, 3, 1, 2)
