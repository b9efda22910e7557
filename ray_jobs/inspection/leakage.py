"""Copies across splits: what a training says of them, or refuses, and which judged images have copies in training."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data_pipeline.inspection.findings import leaking_pairs
from data_pipeline.listing.index import Dataset
from ray_jobs.errors import ConfigError, GateError
from ray_jobs.inspection.commands import inspect_command, split_command
from ray_jobs.inspection.record import InspectionRecord, clusters_of, find_inspection
from ray_jobs.job.config import JobConfig
from ray_jobs.terminal.counted import counted

_LISTED = 10
_LINES = 6


def check_leakage(job: JobConfig, dataset: Dataset) -> tuple[str, ...]:
    """The lines that a person should see before a training on this dataset, by its newest inspection and its splits.

    With `data.leakage = "error"`, raises ConfigError where the data were never inspected, and GateError, which lists
    pairs, where an image of val or test has a copy in a split that is nearer to training.
    """
    if job.data.leakage == "ignore":
        return ()
    record = find_inspection(job.storage.root, dataset.fingerprint)
    if record is None:
        if job.data.leakage == "error":
            raise ConfigError(
                f'data.leakage="error" needs an inspection of data.root={job.data.root} as it is now, and '
                f"{job.storage.root} has none; make one with: {inspect_command(job)}"
            )
        return (f"not inspected: {inspect_command(job)} finds copies across splits, wrong labels and more",)
    leaks = leaking_pairs(dataset.splits, clusters_of(dataset.samples.sample_ids, record))
    radius = record.radius.bits if record.radius.given else None
    if leaks and job.data.leakage == "error":
        raise GateError(_refusal(job, dataset, leaks, radius))
    return (*_leak_line(job, dataset, leaks, radius), *_other_lines(record))


def leaked_samples(
    record: InspectionRecord, sample_ids: Sequence[str], split_of: Mapping[str, str]
) -> NDArray[np.bool_]:
    """bool [N]: which samples have a copy in a split that is nearer to training. `split_of`: of all images that a
    training had."""
    known = list(split_of)
    pairs = leaking_pairs(list(split_of.values()), clusters_of(known, record))
    leaked = {known[row] for row, _ in pairs}
    return np.array([sample_id in leaked for sample_id in sample_ids], np.bool_)


def _refusal(job: JobConfig, dataset: Dataset, leaks: Sequence[tuple[int, int]], radius: int | None) -> str:
    ids = dataset.samples.sample_ids
    lines = [
        f"  {ids[row]!r} ({dataset.splits[row]}) is a copy of {ids[copy]!r} ({dataset.splits[copy]})"
        for row, copy in leaks[:_LISTED]
    ]
    more = [f"  and {len(leaks) - _LISTED} more"] * (len(leaks) > _LISTED)
    first = (
        f"{counted(len(leaks), 'image')} of val and test are copies of images in another split, and "
        f'data.leakage="error" allows none; put copies on one side with: {split_command(job, radius)}'
    )
    return "\n".join([first, *lines, *more])


def _leak_line(
    job: JobConfig, dataset: Dataset, leaks: Sequence[tuple[int, int]], radius: int | None
) -> tuple[str, ...]:
    if not leaks:
        return ()
    own = [dataset.splits[row] for row, _ in leaks]
    named = " and ".join(
        f"{own.count(split)} of {dataset.splits.count(split)} {split} images"
        for split in ("val", "test")
        if split in own
    )
    return (
        f"warning: {named} have copies in another split, so results look better than they are; put copies on one side "
        f"with: {split_command(job, radius)}",
    )


def _other_lines(record: InspectionRecord) -> tuple[str, ...]:
    """What else is an error or a warning, worst first."""
    others = [
        finding
        for finding in record.findings
        if finding.severity != "note" and finding.code not in ("copies-across-splits", "few-images", "unreadable")
    ]
    lines = [f"inspection: {finding.count} {finding.sentence}; {finding.remedy}" for finding in others[:_LINES]]
    more = len(others) - _LINES
    return (*lines, *([f"inspection: {counted(more, 'more finding')}"] if more > 0 else []))
