"""Where trainings of one machine share the features of frozen stages, and which trainings may."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel

from data_pipeline.listing.samples import Samples
from ray_jobs.job.config import JobConfig
from ray_jobs.job.identity import belongs
from ray_jobs.job.packages import installed_version
from resnet_dist.errors import RunError
from resnet_dist.features.reuse import FeatureReuse
from resnet_dist.features.store import FeatureStore

GIB = 2**30
_MOST_BYTES = 64 * GIB
_PACKAGES = ("torch", "torchvision", "nvidia-dali-cuda130", "pillow", "numpy")
"""Those that decode, draw, resize or compute; the wheel's name for DALI."""

_SCHEMA = 2
"""Another number whenever the same settings and packages make other pixels, or this digest is made otherwise."""


@dataclass(frozen=True)
class FeatureSharing:
    """The same for all trainings that share."""

    fingerprint: str
    """Of the dataset."""
    kept: Literal["fp32", "bf16"]
    always: bool
    """Whether to share also what is computed faster than it is read."""
    folder: str = ""
    """On each machine; empty: one of this user's in the folder for temporary files."""
    limit_bytes: int | None = None
    """Of that folder; None: half of what is free, at most 64 GiB."""

    def open(
        self,
        job: JobConfig,
        train: Samples,
        val: Samples,
        microbatch_size: int,
        device: torch.device,
        threads: int,
        say: Callable[[str], None],
    ) -> FeatureReuse | None:
        """For one training; None, and a word why, where the folder cannot be used."""
        place = Path(self.folder or default_folder())
        try:
            store = FeatureStore(place, self.limit_bytes or room_for(place))
        except (RunError, OSError) as error:
            say(f"features of the frozen stages are not shared: {error}")
            return None
        digest = views_digest(job, train, val, self.fingerprint, microbatch_size, device, threads)
        return FeatureReuse(store, digest, self.kept, say, always=self.always)


def default_folder() -> str:
    """This user's folder for shared features."""
    return f"{tempfile.gettempdir()}/resnet-dist-features-{os.getuid()}"


def room_for(place: Path) -> int:
    """Bytes that a folder may have: half of what is free there, at most 64 GiB."""
    there = next(each for each in (place, *place.absolute().parents) if each.is_dir())
    return min(shutil.disk_usage(there).free // 2, _MOST_BYTES)


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
