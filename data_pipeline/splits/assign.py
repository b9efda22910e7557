"""Which images train, which monitor the training and which judge its result; stored as CSV."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import StringIO

import numpy as np
from numpy.typing import NDArray

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.csv_cells import cell_text, safe_cell
from data_pipeline.listing.image_folder import SPLITS
from data_pipeline.listing.index import Dataset
from data_pipeline.splits.folds import assign_folds, refuse_starved
from data_pipeline.splits.grouping import largest_groups_first
from data_pipeline.views.randomness import Purpose, draw

TRAIN, VAL, TEST = range(3)
"""Positions in `SPLITS`."""

_COLUMNS = ["sample_id", "split", "label", "group", "fold"]


@dataclass(frozen=True)
class LabelledRows:
    """N samples that are to be divided."""

    keys: NDArray[np.uint64]
    labels: NDArray[np.int64]
    groups: Sequence[str | None]
    """Samples of one group stay together; None: alone."""


def assign_splits(dataset: Dataset, data: DataConfig, seed: int) -> Dataset:
    """The dataset with a split for every row, and a fold for those that are not test where `data.folds` is set.

    Splits and folds that the data have stay. Where there is train without val, val is carved out of train; where
    there are none, val and test are carved out of all. With `data.fold`, that fold is val and the others are train.
    Raises DataError where a split that was asked for would be empty, or a fold would lack a class.
    """
    samples = dataset.samples
    rows = LabelledRows(samples.keys, samples.labels, dataset.groups)
    splits = split_of_rows(rows, dataset.splits, data.val_fraction, data.test_fraction, seed)
    folds: tuple[int | None, ...] = ()
    if data.folds is not None:
        folds = fold_of_rows(rows, samples.classes, splits, dataset.folds, data.folds, seed)
    if data.fold is not None:
        of_fold = {None: "test", data.fold: "val"}
        splits = tuple(of_fold.get(fold, "train") for fold in folds)
    refuse_empty(splits, dataset.splits, dataset.groups, data.val_fraction, data.test_fraction)
    return replace(dataset, splits=splits, folds=folds)


def split_of_rows(
    samples: LabelledRows, given: Sequence[str | None], val_fraction: float, test_fraction: float, seed: int
) -> tuple[str, ...]:
    """train, val or test for N samples, those `given` kept; see `assign_splits` and `carve`."""
    splits = [split or "" for split in given]
    if not any(splits):
        rows = np.arange(len(samples.keys))
    elif "val" not in splits:
        rows, test_fraction = np.array([row for row, split in enumerate(splits) if split == "train"]), 0.0
    else:
        return tuple(splits)
    groups = [samples.groups[row] for row in rows.tolist()]
    carved = carve(samples.keys[rows], samples.labels[rows], groups, val_fraction, test_fraction, seed)
    for row, split in zip(rows.tolist(), carved.tolist(), strict=True):
        splits[row] = SPLITS[split]
    return tuple(splits)


def refuse_empty(
    splits: Sequence[str],
    given: Sequence[str | None],
    groups: Sequence[str | None],
    val_fraction: float,
    test_fraction: float,
) -> None:
    """Raises DataError if a split that the job makes a fraction of the data has no image.

    Train never lacks a class: see `carve`.
    """
    fractions = {"val": val_fraction, "test": 0.0 if any(given) else test_fraction}
    for name, fraction in fractions.items():
        if fraction > 0.0 and name not in splits:
            count = len(set(groups) - {None})
            grouped = f" in {count} group{'s' * (count > 1)} and {groups.count(None)} alone" if count else ""
            raise DataError(
                f"nothing was left for {name} of {len(splits)} images{grouped}, since groups stay whole and each class "
                f"keeps some to train on (data.{name}_fraction={fraction}); use finer groups, another "
                f"data.{name}_fraction, or a {name} split in the data"
                f"{', or data.test_fraction=0 for none' if name == 'test' else ''}"
            )


def fold_of_rows(
    samples: LabelledRows,
    classes: Sequence[str],
    splits: Sequence[str],
    given: Sequence[int | None],
    folds: int,
    seed: int,
) -> tuple[int | None, ...]:
    """The fold of N samples, None for test: the `given` ones, if any; else see `assign_folds`.

    Raises DataError for a class that a fold lacks.
    """
    rows = np.flatnonzero([split != "test" for split in splits])
    labels, row_groups = samples.labels[rows], [samples.groups[row] for row in rows.tolist()]
    if any(fold is not None for fold in given):
        found = np.array([given[row] for row in rows.tolist()], dtype=np.int64)
        refuse_starved(found, labels, row_groups, classes, folds)
        return tuple(given)
    dealt = assign_folds(samples.keys[rows], labels, row_groups, classes, folds, seed)
    fold_of: dict[int, int] = dict(zip(rows.tolist(), dealt.tolist(), strict=True))
    return tuple(fold_of.get(row) for row in range(len(splits)))


def carve(
    keys: NDArray[np.uint64],
    labels: NDArray[np.int64],
    groups: list[str | None],
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> NDArray[np.int64]:
    """Positions in SPLITS for N samples: int64 [N], stratified by label, groups whole.

    Each class gives its share to val and test: rounded, one image at least where it has enough, and always keeps
    one for train; a class of one is only trained on, one of two has no test. Groups go, largest first, where they
    leave the least to be desired, and the images without a group make up the shares. A row's split depends on its
    own key and on which others there are, not on their order.
    """
    classes, label_rows = np.unique(labels, return_inverse=True)
    targets = np.array([_shares(int(count), val_fraction, test_fraction) for count in np.bincount(label_rows)])
    splits = np.full(len(keys), -1, dtype=np.int64)
    _place_groups(splits, label_rows, groups, targets, seed)
    bits = draw(seed, Purpose.SPLIT, 0, keys, 1)[:, 0]
    for label in range(len(classes)):
        members = np.flatnonzero(label_rows == label)
        placed = np.bincount(splits[members][splits[members] >= 0], minlength=3)
        alone = members[splits[members] < 0]
        alone = alone[np.lexsort((keys[alone], bits[alone]))]
        can_leave = len(alone) - (placed[TRAIN] == 0)
        val = min(max(targets[label][VAL] - placed[VAL], 0), can_leave)
        test = min(max(targets[label][TEST] - placed[TEST], 0), can_leave - val)
        splits[alone] = np.repeat([VAL, TEST, TRAIN], [val, test, len(alone) - val - test])
    return splits


@dataclass(frozen=True)
class SplitRow:
    """One line of split.csv."""

    sample_id: str
    split: str
    """train, val or test."""
    label: str
    """Name of the class."""
    group: str | None
    """Images of one group share a split; None: alone. Empty in the file."""
    fold: int | None
    """Part of a cross-validation, from 0 on; None: none. Empty in the file."""


def split_rows(dataset: Dataset) -> list[SplitRow]:
    """The rows of split.csv for a dataset whose splits are assigned."""
    samples = dataset.samples
    labels: list[int] = samples.labels.tolist()
    return [
        SplitRow(sample_id, split or "", samples.classes[label], group, fold)
        for sample_id, split, label, group, fold in zip(
            samples.sample_ids,
            dataset.splits,
            labels,
            dataset.groups,
            dataset.folds or (None,) * len(dataset),
            strict=True,
        )
    ]


def write_split_csv(rows: Iterable[SplitRow]) -> str:
    """The text of split.csv: RFC 4180, a header and one record for each row, safe to open in a spreadsheet."""
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        fold = "" if row.fold is None else row.fold
        texts = (row.sample_id, row.split, row.label, row.group or "")
        writer.writerow([*map(safe_cell, texts), fold])
    return text.getvalue()


def read_split_csv(text: str) -> list[SplitRow]:
    """The rows of split.csv. Raises DataError for other columns, an unknown split, or a sample listed twice."""
    records = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        header, *lines = records
    except (csv.Error, ValueError) as error:
        raise DataError(f"split.csv is damaged ({error}); it must be CSV with the columns {_COLUMNS}") from error
    if header != _COLUMNS:
        raise DataError(f"split.csv has the columns {header}; they must be {_COLUMNS}")
    rows = [_row(line, number) for number, line in enumerate(lines, start=2)]
    seen: set[str] = set()
    for row in rows:
        if row.sample_id in seen:
            raise DataError(f"split.csv lists sample_id={row.sample_id!r} twice; remove one of the lines")
        seen.add(row.sample_id)
    return rows


def _row(line: list[str], number: int) -> SplitRow:
    if len(line) != len(_COLUMNS):
        raise DataError(f"split.csv: record {number} has {len(line)} columns; there must be {len(_COLUMNS)}")
    sample_id, split, label, group, fold = map(cell_text, line)
    if split not in SPLITS:
        raise DataError(f"split.csv: record {number} has split={split!r}; use one of {', '.join(SPLITS)}")
    if fold and not (fold.isascii() and fold.isdigit() and len(fold) < 10):
        raise DataError(
            f"split.csv: record {number} has fold={fold!r}; use a whole number from 0 on, or leave it empty"
        )
    return SplitRow(sample_id, split, label, group or None, int(fold) if fold else None)


def _shares(count: int, val_fraction: float, test_fraction: float) -> tuple[int, int, int]:
    """How many of a class's images go to train, val and test."""
    val = max(int(count * val_fraction + 0.5), int(val_fraction > 0.0 and count >= 2))
    test = max(int(count * test_fraction + 0.5), int(test_fraction > 0.0 and count >= 3))
    while val + test >= count:
        val, test = (val - 1, test) if val > test else (val, test - 1)
    return count - val - test, val, test


def _place_groups(
    splits: NDArray[np.int64],
    labels: NDArray[np.int64],
    groups: list[str | None],
    targets: NDArray[np.int64],
    seed: int,
) -> None:
    """Fill in the splits of rows that have a group. `targets`: int64 [classes, 3]."""
    placed = np.zeros_like(targets)
    unplaced = targets.sum(axis=1)
    for rows in largest_groups_first(groups, seed, 0):
        label, count = np.unique(labels[rows], return_counts=True)
        unplaced[label] -= count
        missing = (targets[label] - placed[label]) / np.maximum(targets[label], 1)
        wanted = count @ missing
        wanted[targets.sum(axis=0) == 0] = -np.inf  # not asked for, so not where the others are too full either
        if np.any(placed[label, TRAIN] + unplaced[label] == 0):
            wanted[[VAL, TEST]] = -np.inf  # the class would have nothing to train on
        split = int(np.argmax(wanted))
        placed[label, split] += count
        splits[rows] = split
