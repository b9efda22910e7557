"""What two trainings must have in common for their frozen stages to see and make the same."""

import hashlib
import json
from typing import Any

import torch
from pydantic import BaseModel

from data_pipeline.listing.samples import Samples
from ray_jobs.job.config import JobConfig
from ray_jobs.job.identity import belongs
from ray_jobs.job.packages import installed_version

_PACKAGES = ("torch", "torchvision", "nvidia-dali-cuda130", "pillow", "numpy")
"""Those that decode, draw, resize or compute; the wheel's name for DALI."""

_SCHEMA = 2
"""Another number whenever the same settings and packages make other pixels, or this digest is made otherwise."""


def views_digest(
    job: JobConfig,
    train: Samples,
    val: Samples,
    fingerprint: str,
    microbatch_size: int,
    device: torch.device,
    threads: int,
) -> str:
    """Hex digest of all that decides the input of a job's frozen stages and how it is computed with, but not of those
    stages themselves.

    `fingerprint` is the dataset's, `microbatch_size` the one in effect, `threads` torch's. Of the data's and the
    augmentation's settings all that belong to a run's identity count, so a new one does too.
    """
    training = job.training
    decides = {
        "schema": _SCHEMA,
        "seed": job.seed,
        "fingerprint": fingerprint,
        "train": _of_samples(train),
        "val": _of_samples(val),
        "data": _settings(job.data),
        "augmentation": _settings(job.augmentation),
        "mixing": [training.mixup_alpha, training.cutmix_alpha],
        "batches": [training.global_batch_size, microbatch_size, job.evaluation.batch_size],
        "arithmetic": [training.precision, training.compile, threads, *_hardware(device)],
        "packages": [installed_version(name) or "absent" for name in _PACKAGES],
    }
    return hashlib.blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=20).hexdigest()


def _settings(section: BaseModel) -> dict[str, Any]:
    fields = type(section).model_fields
    return {name: getattr(section, name) for name, field in fields.items() if belongs(type(section), field)}


def _of_samples(samples: Samples) -> str:
    """Hex digest of a split, wherever its files lie."""
    listed = [samples.classes, samples.sample_ids, samples.content]
    digest = hashlib.blake2b(json.dumps(listed).encode(), digest_size=20)
    for column in (samples.keys, samples.labels, samples.sizes, samples.plain):
        digest.update(f"{column.dtype.str} {column.shape}\n".encode())
        digest.update(column.tobytes())
    return digest.hexdigest()


def _hardware(device: torch.device) -> list[str | int | None]:
    """Two machines that may round differently differ in it."""
    capability = torch.backends.cpu.get_cpu_capability()
    if device.type != "cuda":
        return [device.type, capability]
    return [device.type, capability, torch.cuda.get_device_name(device), torch.backends.cudnn.version()]
