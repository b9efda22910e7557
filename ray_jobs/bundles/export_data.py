"""The images that an export looks at: val and test to judge formats by, training images for int8 ranges, and noise."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from data_pipeline.errors import DataError
from data_pipeline.listing.image_names import EXTENSIONS
from data_pipeline.listing.samples import Samples
from data_pipeline.splits.assign import read_split_csv
from data_pipeline.views.randomness import Purpose, draw
from ray_jobs.data.calibration_images import BATCH, calibration_samples, each_image, read_images
from ray_jobs.data.evaluation_set import evaluation_set_of_run
from ray_jobs.data.node_images import local_folder
from ray_jobs.data.prepare import index_data
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from resnet_dist.export.parity import ReferenceAnswers
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.runtime.errors import UnreadableImageError
from resnet_dist.runtime.preprocess import Preprocess


@dataclass(frozen=True)
class RunData:
    """A run's own images, as its split.csv splits them."""

    train: Samples
    val: Samples
    test: Samples | None
    fingerprint: str
    notes: tuple[str, ...]
    """What a person should know of the choice."""

    @classmethod
    def of(cls, directory: RunDirectory, job: JobConfig) -> "RunData":
        """Index the run's folder. Raises DataError where it lacks images of train or val."""
        stored = directory.read_dataset()
        dataset, rows = index_data(job, may_lack_classes=True), read_split_csv(directory.read_split_csv())
        present = {row.split for row in rows}
        found = {
            split: evaluation_set_of_run(dataset, stored.classes, stored.fingerprint, rows, split)
            for split in ("train", "val", "test")
            if split in present or split != "test"
        }
        test = found["test"].samples if "test" in found else None
        return cls(found["train"].samples, found["val"].samples, test, stored.fingerprint, found["val"].notes)

    @property
    def classes(self) -> tuple[str, ...]:
        """In the model's order."""
        return self.val.classes


class ExportImages:
    """Reads images as the runtime does, into files of `scratch` that are mapped: a split may be larger than memory."""

    def __init__(self, preprocess: Preprocess, scratch: Path) -> None:
        self.preprocess = preprocess
        self._scratch = scratch

    def reference(self, name: str, samples: Samples, model: ResNetClassifier) -> ReferenceAnswers:
        """A split's images with the model's answers. Raises DataError where a file has changed since it was indexed."""
        images = np.memmap(
            self._scratch / f"{name}.images", np.uint8, "w+", shape=(len(samples), *self.preprocess.input_size, 3)
        )
        for row, image in enumerate(each_image(self.preprocess, samples)):
            images[row] = image
        return ReferenceAnswers(images, samples.labels, self.answers(images, model))

    def noise(self, job: JobConfig, model: ResNetClassifier) -> ReferenceAnswers:
        """Images whose every value is drawn by the job's seed."""
        count, shape = job.export.noise_images, (*self.preprocess.input_size, 3)
        keys, size = np.arange(count, dtype=np.uint64), int(np.prod(shape))
        words = draw(job.seed, Purpose.CALIBRATION, 1, keys, -(-size // 8))
        images = words.view(np.uint8)[:, :size].reshape(count, *shape)
        return ReferenceAnswers(images, np.zeros(count, dtype=np.int64), self.answers(images, model))

    def ranges(self, job: JobConfig, data: RunData) -> Sequence[NDArray[np.uint8]]:
        """Batches that value ranges are taken from: training images drawn by the job's seed, or another folder's.

        Raises DataError for a folder without a readable image.
        """
        count = job.export.calibration_images
        if job.export.calibration_root:
            with local_folder(job.export.calibration_root, job.data, "export.calibration_root") as folder:
                return batches(self._of_folder(Path(folder).expanduser(), count, job.seed))
        return batches(read_images(self.preprocess, calibration_samples(data.train, count, job.seed)))

    def answers(self, images: NDArray[np.uint8], model: ResNetClassifier) -> NDArray[np.float32]:
        """Logits [N, C] in fp32, of the network as it was trained, normalised as evaluation does it."""
        found: list[NDArray[np.float32]] = []
        with torch.no_grad():
            for batch in batches(images):
                normalised = torch.from_numpy(self.preprocess.normalise(batch)).permute(0, 3, 1, 2)
                found.append(model(normalised).numpy())
        return np.concatenate(found)

    def _of_folder(self, folder: Path, count: int, seed: int) -> NDArray[np.uint8]:
        """Drawn, for the first ones by name may all be of one class."""
        names = sorted(path for path in folder.rglob("*") if os.fsencode(path.suffix).lower() in EXTENSIONS)
        keys = np.arange(len(names), dtype=np.uint64)
        order: list[int] = np.argsort(draw(seed, Purpose.CALIBRATION, 2, keys, 1)[:, 0]).tolist()
        found: list[NDArray[np.uint8]] = []
        for path in (names[place] for place in order):
            try:
                found.append(self.preprocess.read(path.read_bytes()))
            except (OSError, UnreadableImageError):
                continue
            if len(found) == count:
                break
        if not found:
            raise DataError(
                f"export.calibration_root={folder} has no readable image; name a folder of images, or leave it out"
            )
        return np.stack(found)


def batches(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Views of `BATCH` images each, the last one of what is left."""
    return [images[at : at + BATCH] for at in range(0, len(images), BATCH)]
