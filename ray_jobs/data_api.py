"""The part of `ray_jobs.api` that works on data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from data_pipeline.config import DataConfig
    from ray_jobs.data.split import Grouping, SplitOutcome
    from ray_jobs.inspection.diff import DiffOutcome
    from ray_jobs.inspection.inspect import InspectOutcome
    from ray_jobs.job.config import JobConfig


def sample(name: Literal["digits", "fashion-mnist"], folder: Path) -> None:
    """Write a small public data set as a folder of images for each class."""
    from data_pipeline.example_data import write_digits, write_fashion_mnist

    (write_digits if name == "digits" else write_fashion_mnist)(folder)


def inspect(
    job: JobConfig, *, radius: int | None = None, reread: bool = False, predictions: str | None = None
) -> InspectOutcome:
    """Look at every image of the job's data once, and store and return what is wrong with them.

    `predictions`: the name of a finished run of `data.folds` on the same data, to find wrong labels by.
    """
    from ray_jobs.inspection.inspect import InspectOptions, run_inspect

    if predictions is None:
        return run_inspect(job, InspectOptions(radius, reread))
    from ray_jobs.evaluation.fold_predictions import fold_predictions, folds_of

    folds = folds_of(predictions, job.storage.root)
    where = {"storage": {"root": job.storage.root}, "cluster": {"address": job.cluster.address}}
    return run_inspect(
        job, InspectOptions(radius, reread, lambda fingerprint: fold_predictions(folds, fingerprint, where))
    )


def diff(first: str, second: str, job: JobConfig, *, radius: int | None = None) -> DiffOutcome:
    """What differs between two data sets, each a folder, a labels file or a run.

    `job`: where records are, and how images are read; the data are the two.
    """
    from ray_jobs.inspection.diff import run_diff

    return run_diff(first, second, job, radius=radius)


def split(
    data: DataConfig,
    output: Path,
    *,
    seed: int = 0,
    grouping: Grouping | None = None,
    duplicates: bool = False,
    radius: int | None = None,
    overwrite: bool = False,
) -> SplitOutcome:
    """Split the images of `data` by its fractions and folds, groups whole, into the CSV `output` for `data.labels`.

    `duplicates`: copies and near copies are one group, too; the images are looked at for that, see `inspect`, which has
    the `radius`, too.
    """
    from dataclasses import replace

    from ray_jobs.data.split import Grouping, check_split, run_split

    grouping = grouping or Grouping()
    check_split(data, grouping, output, overwrite=overwrite)
    if duplicates:
        from ray_jobs.inspection.copies_of import copies_of

        grouping = replace(grouping, copies=copies_of(data, radius))
    return run_split(data, seed, grouping, output, overwrite=overwrite)
