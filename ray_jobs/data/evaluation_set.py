"""Which images an evaluation judges: a split as the run stored it, or another folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cluster.storage.folder_name import folder_name
from data_pipeline.errors import DataError
from data_pipeline.listing.image_folder import SPLITS
from data_pipeline.listing.index import Dataset
from data_pipeline.listing.samples import Samples, read_file
from data_pipeline.splits.assign import SplitRow
from resnet_dist.runtime.preprocess import Preprocess

WHOLE = "all"
"""The name of what is judged where another folder has no splits of its own."""


@dataclass(frozen=True)
class EvaluationSet:
    """The images to be judged, labelled by the run's classes."""

    split: str
    """train, val or test; `WHOLE` for another folder without splits."""
    record: str
    """Name of the result under evaluation/: that of the split, behind the folder's where it is not the run's."""
    samples: Samples
    notes: tuple[str, ...]
    """What a person should know of the choice."""


def evaluation_set_of_run(
    dataset: Dataset, classes: tuple[str, ...], fingerprint: str, rows: Sequence[SplitRow], asked: str | None
) -> EvaluationSet:
    """A split of the run's own images, as its split.csv says: `asked`, else test where there is one, else val.

    The splits are not drawn anew: where images came or went since training, a training image could end up in test.
    Those that came are in no split and are left out. Raises DataError where the split has no images, and for a class
    that the run did not learn.
    """
    dataset = _relabelled(dataset, classes)
    split_of = {row.sample_id: row.split for row in rows}
    splits = tuple(split_of.get(sample_id) for sample_id in dataset.samples.sample_ids)
    came, went = splits.count(None), len(rows) - (len(splits) - splits.count(None))
    notes: tuple[str, ...] = ()
    if dataset.fingerprint != fingerprint:
        notes = (
            f"the folder has changed since training: {came} images came (left out, they are in no split), {went} "
            "are gone, others may have been replaced",
        )
    return _of(replace(dataset, splits=splits), asked, None, notes)


def evaluation_set_of_folder(dataset: Dataset, classes: tuple[str, ...], asked: str | None) -> EvaluationSet:
    """A split of another folder, or all of it where it has only class folders. Its classes may be some of the run's.

    Raises DataError for a class that the run did not learn, and for a split that is not there.
    """
    dataset, root = _relabelled(dataset, classes), dataset.samples.root
    if set(dataset.splits) == {None}:
        if asked is not None:
            raise DataError(f"{root} has only class folders, no split {asked!r}; leave --split out to judge all of it")
        dataset = replace(dataset, splits=(WHOLE,) * len(dataset))
        asked = WHOLE
    return _of(dataset, asked, folder_name(root), ())


def read_sample(preprocess: Preprocess, samples: Samples, row: int) -> NDArray[np.uint8]:
    """uint8 [height, width, 3] of a sample. Raises DataError when its file was changed since it was indexed."""
    try:
        return preprocess.read(read_file(samples, row))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{samples.sample_ids[row]!r} was readable when the folder was indexed and is not now ({error}); "
            "restore it and start again"
        ) from error


def _relabelled(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """With the run's labels, since a folder that lacks some of its classes counts them otherwise."""
    samples = dataset.samples
    if unknown := [name for name in samples.classes if name not in classes]:
        raise DataError(
            f"{samples.root} has the classes {', '.join(samples.classes)}, the run learnt {', '.join(classes)}; "
            f"{', '.join(unknown)} cannot be judged: rename the folder to one of these, or move it away"
        )
    labels = np.array([classes.index(name) for name in samples.classes], dtype=np.int64)[samples.labels]
    return replace(dataset, samples=replace(samples, classes=classes, labels=labels))


def _of(dataset: Dataset, asked: str | None, folder: str | None, notes: tuple[str, ...]) -> EvaluationSet:
    present = [name for name in (*SPLITS, WHOLE) if name in dataset.splits]
    split = asked or ("test" if "test" in present else "val")
    if split not in present:
        raise DataError(f"{dataset.samples.root} has no images of split {split!r}; there are {', '.join(present)}")
    record = split if folder is None else f"{folder}.{split}"
    return EvaluationSet(split, record, dataset.samples.select(dataset.rows(split)), notes)
