"""The data of a job, found and checked on the driver before anything is started."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.errors import DataError
from data_pipeline.listing.image_folder import SPLITS
from data_pipeline.listing.index import Dataset, index_folder
from data_pipeline.listing.samples import Samples
from data_pipeline.listing.scan import Probe, Readers, Show
from data_pipeline.splits.assign import SplitRow, assign_splits, split_rows
from ray_jobs.data.node_images import local_data
from ray_jobs.job.config import JobConfig
from ray_jobs.terminal.scan_bar import ScanView
from resnet_dist.runtime.image_file import decode_rgb, image_header


@dataclass(frozen=True)
class PreparedData:
    """A dataset whose every sample has a split."""

    dataset: Dataset

    def split(self, name: str) -> Samples:
        """The samples of a split, sorted by sample id."""
        return self.dataset.samples.select(self.dataset.rows(name))

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each split that has any."""
        return {name: count for name in SPLITS if (count := self.dataset.splits.count(name))}

    def split_rows(self) -> list[SplitRow]:
        """Every sample with its split, label, group and fold: the rows of split.csv."""
        return split_rows(self.dataset)

    def summary(self) -> dict[str, Any]:
        """dataset.json: classes in order, fingerprint, counts and what was left out."""
        return {
            "schema": 1,
            "classes": list(self.dataset.samples.classes),
            "fingerprint": self.dataset.fingerprint,
            "splits": self.counts,
            "unreadable": [list(entry) for entry in self.dataset.unreadable],
            "ignored_files": self.dataset.ignored,
        }


def prepare_data(job: JobConfig) -> PreparedData:
    """Index, scan and split the job's folder. Raises DataError when it cannot be trained on."""
    return PreparedData(assign_splits(index_data(job), job.data, job.seed))


def index_data(job: JobConfig, *, may_lack_classes: bool = False) -> Dataset:
    """Index and scan the job's folder, copied to this machine where it is a URI; long work shows how far it is.

    Raises DataError, for a URI StorageError too.

    `may_lack_classes`: images to be judged, which need not have all classes that the job's settings name.
    """
    readers = Readers(decoder(job), partial(image_header, max_pixels=job.data.max_pixels), training_probe(job))
    with local_data(job.data) as data, ScanView() as view:
        try:
            return index_folder(data, readers, view.show, may_lack_classes=may_lack_classes)
        except DataError as error:
            if data.root == job.data.root:
                raise
            raise DataError(f"{error}\n{data.root} is this machine's copy of {job.data.root}") from error


def decoder(job: JobConfig) -> Callable[[bytes], NDArray[np.uint8]]:
    """The runtime's decoding with the job's bounds: the one definition of what an image's pixels are."""
    return partial(decode_rgb, bit_depth=job.data.bit_depth, max_pixels=job.data.max_pixels)


def training_probe(job: JobConfig) -> Probe | None:
    """Training's own decoder where that is not Pillow: a file that it cannot read must be found before training."""
    return _dali_probe if job.data.source == "dali" else None


def _dali_probe(images: list[bytes], show: Show | None = None) -> list[tuple[int, int] | str]:
    """DALI loads in seconds, so only where a file is to be read."""
    from data_pipeline.sources.dali_probe import probe  # noqa: PLC0415

    return probe(images, show)
