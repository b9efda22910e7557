"""How a job's images become the model's input: what preprocess.json of its run says."""

from ray_jobs.job.config import JobConfig
from resnet_dist.runtime.preprocess import Preprocess


def preprocess_of(job: JobConfig) -> Preprocess:
    """The preprocessing that evaluation, prediction and exported models share."""
    data = job.data
    height, width = data.input_size
    return Preprocess(
        mode=data.resize,
        size=height if height == width else (height, width),
        crop_fraction=data.crop_fraction,
        pad_colour=data.pad_colour,
        mean=data.mean,
        std=data.std,
        bit_depth=data.bit_depth,
        max_pixels=data.max_pixels,
    )
