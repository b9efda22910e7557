"""`resnet-dist data split`: writes down which image is in which split, group and fold, as a labels file."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np

from cluster.storage.whole_file import replacing
from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.csv_cells import safe_cell
from data_pipeline.listing.image_folder import SPLITS, Listing
from data_pipeline.listing.index import given_folds, list_images
from data_pipeline.listing.samples import key_of, sample_id_of
from data_pipeline.splits.assign import LabelledRows, fold_of_rows, refuse_empty, split_of_rows
from data_pipeline.splits.grouping import groups_by_gap, groups_by_pattern, joined_groups
from ray_jobs.data.node_images import local_data
from ray_jobs.errors import ConfigError

COLUMNS = ("path", "label", "split", "group", "fold")

_LISTED = 20


@dataclass(frozen=True)
class Grouping:
    """What says which images stay together; at most one of them."""

    regex: str | None = None
    """Its first group, or the whole match, in the sample id names the group."""
    column: str | None = None
    """A column that the labels file must have; without, its column group is taken where there is one."""
    gap: int | None = None
    """Numbers in file names of a class that lie within this of the next one chain their images into a group."""
    copies: Mapping[str, str] | None = None
    """By sample id the group of images that are copies, as an inspection found them; joined with the groups that a
    labels file names. Copies move to the split furthest from training that one of them is in: test, val, train."""


@dataclass(frozen=True)
class SplitOutcome:
    """A labels file that was written."""

    output: Path
    counts: dict[str, int]
    """Images of each split that has any."""
    groups: int
    alone: int
    """Images without a group."""
    folds: int | None
    labels: str
    """What `data.labels` is to be: relative where the file lies below `data.root`, else absolute."""


def check_split(data: DataConfig, grouping: Grouping, output: Path, *, overwrite: bool = False) -> None:
    """Raise ConfigError for a wrong grouping, and where `output` is there and not to be overwritten."""
    _checked(grouping, data)
    if output.exists() and not overwrite:
        raise ConfigError(f"--output {output} is there already; name another file, or add --overwrite")


def run_split(
    data: DataConfig, seed: int, grouping: Grouping, output: Path, *, overwrite: bool = False
) -> SplitOutcome:
    """Split the images of `data` by its fractions and folds, and write `output`, CSV that `data.labels` can name.

    Splits that the data have stay, and with `data.folds` their folds. Images are listed, not read. Raises
    ConfigError for a wrong grouping and where `output` is there and not to be overwritten, DataError where the data
    cannot be split so.
    """
    check_split(data, grouping, output, overwrite=overwrite)
    pattern = _checked(grouping, data)
    with local_data(data) as here:
        listing, classes = list_images(here, group_column=grouping.column)
    if listing.broken:
        lines = [f"  {image.sample_id!r}: {image.reason}" for image in listing.broken[:_LISTED]]
        more = [f"  and {len(listing.broken) - _LISTED} more"] * (len(listing.broken) > _LISTED)
        raise DataError(
            "\n".join([f"{len(listing.broken)} images of {listing.named} are no files; remove them:", *lines, *more])
        )
    listing.images.sort(key=lambda image: sample_id_of(image.relative_path))
    ids = [sample_id_of(image.relative_path) for image in listing.images]
    names = [image.class_name for image in listing.images]
    for name in classes:
        if name != name.strip():
            raise DataError(
                f"class {name!r} begins or ends with white space, which a labels file must not; rename its folder"
            )
    groups = _groups(grouping, pattern, ids, names, listing)
    given_fold = given_folds(listing.images)
    given = [image.split for image in listing.images]
    if grouping.copies is not None:
        given = _on_one_side(given, groups)
        _refuse_untrained(names, given)
    _refuse_torn(ids, "split", given, groups)
    _refuse_torn(ids, "fold", given_fold, groups)
    label_of = {name: label for label, name in enumerate(classes)}
    keys = np.array([key_of(sample_id) for sample_id in ids], dtype=np.uint64)
    labels = np.array([label_of[name] for name in names], dtype=np.int64)
    rows = LabelledRows(keys, labels, groups)
    splits = split_of_rows(rows, given, data.val_fraction, data.test_fraction, seed)
    refuse_empty(splits, given, groups, data.val_fraction, data.test_fraction)
    folds: Sequence[int | None] = (None,) * len(ids)
    if data.folds is not None:
        folds = fold_of_rows(rows, classes, splits, given_fold, data.folds, seed)
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for image, *row in zip(listing.images, names, splits, groups, folds, strict=True):
        texts = (_path(image.relative_path), *("" if value is None else str(value) for value in row))
        writer.writerow(map(safe_cell, texts))
    _write(output, text.getvalue())
    return SplitOutcome(
        output=output,
        counts={name: count for name in SPLITS if (count := splits.count(name))},
        groups=len(set(groups) - {None}),
        alone=groups.count(None),
        folds=data.folds,
        labels=_labels(listing.root, output),
    )


def _checked(grouping: Grouping, data: DataConfig) -> re.Pattern[str] | None:
    """The compiled pattern, if there is one."""
    given = {
        "--group-regex": grouping.regex,
        "--group-column": grouping.column,
        "--group-gap": grouping.gap,
        "--groups duplicates": grouping.copies,
    }
    named = [flag for flag, value in given.items() if value is not None]
    if len(named) > 1 and named != ["--group-column", "--groups duplicates"]:  # both can hold
        raise ConfigError(f"{' and '.join(named)} both say what a group is; keep one of them")
    if grouping.column is not None and not data.labels:
        raise ConfigError(f"--group-column {grouping.column} is a column of a labels file; name it with --labels FILE")
    if grouping.gap is not None and grouping.gap < 1:
        raise ConfigError(f"--group-gap {grouping.gap} must be at least 1, the distance of neighbouring numbers")
    if grouping.regex is None:
        return None
    try:
        return re.compile(grouping.regex)
    except (re.error, OverflowError, RecursionError) as error:
        at = getattr(error, "pos", None)
        where = "" if at is None else f" at position {at}"
        reason = getattr(error, "msg", str(error))
        raise ConfigError(f"--group-regex {grouping.regex!r} is no regular expression: {reason}{where}") from error


def _groups(
    grouping: Grouping, pattern: re.Pattern[str] | None, ids: list[str], names: list[str], listing: Listing
) -> tuple[str | None, ...]:
    if pattern is not None:
        groups = groups_by_pattern(ids, pattern)
        if not any(groups):
            raise DataError(
                f"--group-regex {pattern.pattern!r} finds nothing in any of {len(ids)} sample ids, such as {ids[0]!r}; "
                "correct it, or leave it out"
            )
        return groups
    if grouping.gap is not None:
        groups = groups_by_gap(ids, names, grouping.gap)
        if not any(groups):
            raise DataError(f"--group-gap: no file name carries a number, such as {ids[0]!r}; leave it out")
        return groups
    named = tuple(image.group for image in listing.images)
    return named if grouping.copies is None else joined_groups(named, [grouping.copies.get(each) for each in ids])


def _refuse_untrained(names: Sequence[str], splits: Sequence[str | None]) -> None:
    """Where the data have splits, a class keeps images to train on when copies have moved."""
    left = {name for name, split in zip(names, splits, strict=True) if split in (None, "train")}
    if lost := sorted(set(names) - left):
        raise DataError(
            f"--groups duplicates would leave class {lost[0]!r} without a training image: all that it has are copies "
            "of images of val or test; add other images to train, or split the data without its splits"
        )


def _on_one_side(given: list[str | None], groups: Sequence[str | None]) -> list[str | None]:
    """The given splits, each group's the one furthest from training that any of its images is in."""
    furthest: dict[str, str] = {}
    for split, group in zip(given, groups, strict=True):
        if group is not None and split is not None:
            furthest[group] = max(furthest.get(group, split), split, key=SPLITS.index)
    return [
        furthest.get(group, split) if group is not None and split is not None else split
        for split, group in zip(given, groups, strict=True)
    ]


def _refuse_torn(ids: list[str], kind: str, parts: Sequence[str | int | None], groups: Sequence[str | None]) -> None:
    """A labels file's own groups are checked with it; those found in names only here. `parts`: splits or folds."""
    first: dict[str, int] = {}
    for row, group in enumerate(groups if parts else ()):
        before = first.setdefault(group, row) if group is not None else row
        if parts[before] != parts[row]:
            raise DataError(
                f"group {group!r} is in {kind} {parts[before]} ({ids[before]!r}) and in {kind} {parts[row]} "
                f"({ids[row]!r}), as the data have it; move its images together, or split the data without these "
                f"{kind}s"
            )


def _labels(root: Path, output: Path) -> str:
    real_root, real = root.resolve(), output.resolve()
    return str(real.relative_to(real_root)) if real.is_relative_to(real_root) else str(output.absolute())


def _path(relative_path: bytes) -> str:
    try:
        return relative_path.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{sample_id_of(relative_path)!r} is not UTF-8, which CSV must be; rename the file") from error


def _write(output: Path, text: str) -> None:
    """The file appears whole or not at all."""
    try:
        with replacing(output.absolute()) as file:
            file.write(text.encode())
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written ({error.strerror}); name a file that can") from error
