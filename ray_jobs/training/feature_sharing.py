"""Where trainings of one machine keep the features of frozen stages for each other."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from data_pipeline.listing.samples import Samples
from ray_jobs.job.config import JobConfig
from ray_jobs.training.feature_key import views_digest
from resnet_dist.errors import RunError
from resnet_dist.features.reuse import FeatureReuse
from resnet_dist.features.store import FeatureStore

GIB = 2**30
_MOST_BYTES = 64 * GIB


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
