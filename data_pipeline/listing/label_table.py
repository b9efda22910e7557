"""Lists the images that a labels file names: CSV or Parquet with the columns path, label, maybe split, group, fold."""

import os
import posixpath
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.image_folder import (
    OTHER_SPLIT_NAMES,
    SPLITS,
    BrokenImage,
    ListedImage,
    Listing,
    existing_root,
)
from data_pipeline.listing.samples import sample_id_of
from data_pipeline.listing.table_file import Record, read_records

_LONGEST = 4096
"""Characters of a path, a label, a split or a group."""


@dataclass(frozen=True)
class LabelRow:
    """One image of a labels file."""

    place: str
    """Where it stands in the file, for a message: "line 7"."""
    relative_path: bytes
    """Below data.root, with "/" between parts and without "." or ".."."""
    label: str
    split: str | None
    """train, val or test; None where the file does not say."""
    group: str | None
    fold: int | None


def list_label_table(data: DataConfig, group_column: str | None = None) -> Listing:
    """List the images that the labels file `data.labels` names, relative to `data.root`.

    `group_column` must be there and names the groups; without, the column group does, where there is one. The column
    fold is read where there are `data.folds`. A file that is missing is listed as broken. Raises DataError where the
    file cannot be read, lacks a column or has a row that cannot be right: an absolute path, one that leaves the root,
    the same path twice, an empty label, white space around a label or group, an unknown split or fold, a group in
    several of them, a fold in test or none elsewhere.
    """
    root, table = existing_root(data), label_file(data)
    rows = label_rows(table, group_column, data.folds)
    listing = Listing(root, has_splits=any(row.split for row in rows), table=str(table))
    if listing.has_splits and not any(row.split == "train" for row in rows):
        raise DataError(
            f"{table}: no row has split='train'; name the images to train on, or leave the split column out"
        )
    listing.class_folders = list(dict.fromkeys((row.split, row.label) for row in rows))
    below = _Below(os.fsencode(root), str(table))
    for row in rows:
        below.check(row)
        status = _status(below.root + b"/" + row.relative_path)
        if isinstance(status, str):
            listing.broken.append(BrokenImage(sample_id_of(row.relative_path), status, row.split, row.label))
        else:
            size, mtime_ns = status.st_size, status.st_mtime_ns
            listing.images.append(
                ListedImage(row.relative_path, size, mtime_ns, row.split, row.label, row.group, row.fold)
            )
    return listing


def label_file(data: DataConfig) -> Path:
    """Where the labels file `data.labels` must be. Raises DataError where only one in the working directory is."""
    labels = Path(data.labels).expanduser()
    table = existing_root(data) / labels
    # os.path, which answers where pathlib raises: a name may be too long, a folder closed.
    if not os.path.exists(table) and os.path.exists(labels):  # noqa: PTH110
        raise DataError(
            f"data.labels={data.labels} is no file below data.root={data.root}, and it is taken relative to data.root; "
            f"the file of this name in the working directory is data.labels={labels.absolute()}"
        )
    return table


def label_rows(table: Path, group_column: str | None = None, folds: int | None = None) -> list[LabelRow]:
    """The rows of a labels file, in its order; no image is looked at. Raises DataError, see `list_label_table`."""
    # Whoever names a column of groups must not be served without.
    wanted = ("path", "label") if group_column is None else ("path", "label", group_column)
    optional = ("split", *(("group",) if group_column is None else ()), *(("fold",) if folds else ()))
    rows = [
        _row(str(table), record, group_column or "group", folds) for record in read_records(table, wanted, optional)
    ]
    if not rows:
        raise DataError(f"{table} names no image; add a row for each, or leave data.labels empty to use class folders")
    first: dict[bytes, LabelRow] = {}
    for row in rows:
        if row.relative_path in first:
            before = first[row.relative_path]
            raise DataError(
                f"{table}: {before.place} and {row.place} both name path={_text(row.relative_path)!r}; each image "
                "has one row, remove one of them"
            )
        first[row.relative_path] = row
    _refuse_some_splits(str(table), rows)
    _refuse_some_folds(str(table), rows)
    _refuse_torn_groups(str(table), rows)
    return rows


def _row(table: str, record: Record, group_column: str, folds: int | None) -> LabelRow:
    values = record.values
    for column, value in values.items():
        if len(value) > _LONGEST:
            raise DataError(
                f"{table}: {record.place} has a {column} of {len(value)} characters; at most {_LONGEST} are read, "
                "shorten it"
            )
    label, split = values["label"], values.get("split", "")
    if not label.strip():
        raise DataError(
            f"{table}: {record.place} has label={label!r} for path={values['path']!r}; every image needs the name of "
            "its class, add it or remove the row"
        )
    for column in ("label", group_column):
        if (value := values.get(column, "")) != value.strip():
            raise DataError(
                f"{table}: {record.place} has {column}={value!r}, which begins or ends with white space; names that "
                "look the same must be the same, remove it"
            )
    if split and split not in SPLITS:
        meant = OTHER_SPLIT_NAMES.get(split.strip().lower(), split.strip().lower())
        hint = f"did you mean {meant!r}" if meant in SPLITS else "correct it, or leave the column out"
        raise DataError(f"{table}: {record.place} has split={split!r}; use one of {', '.join(SPLITS)}: {hint}")
    fold = values.get("fold", "") if folds else ""
    if fold and fold not in map(str, range(folds or 0)):
        raise DataError(
            f"{table}: {record.place} has fold={fold!r}; with data.folds={folds} it is a whole number from 0 to "
            f"{(folds or 0) - 1}, correct it, leave the column out, or set data.folds to how many there are"
        )
    return LabelRow(
        place=record.place,
        relative_path=_relative(table, record),
        label=label,
        split=split or None,
        group=values.get(group_column, "") or None,
        fold=int(fold) if fold else None,
    )


def _relative(table: str, record: Record) -> bytes:
    path = record.values["path"]
    where = f"{table}: {record.place} has path={path!r}"
    if not path or "\0" in path:
        raise DataError(f"{where}, which names no file; write its path relative to data.root")
    if path.startswith("/") or (path[1:3] in (":\\", ":/") and path[0].isalpha()):
        raise DataError(f"{where}, which is absolute; write it relative to data.root, so that the data can be moved")
    if ".." in path.split("/"):
        raise DataError(f"{where}, which leaves data.root by '..'; write it without, or set data.root higher up")
    return posixpath.normpath(path).encode()


def _refuse_some_splits(table: str, rows: list[LabelRow]) -> None:
    without = next((row for row in rows if row.split is None), None)
    having = next((row for row in rows if row.split is not None), None)
    if without and having:
        raise DataError(
            f"{table}: {without.place} has no split, {having.place} has split={having.split!r}; fill in the column in "
            "every row, or leave it out"
        )


def _refuse_some_folds(table: str, rows: list[LabelRow]) -> None:
    having = next((row for row in rows if row.fold is not None), None)
    if having is None:
        return
    if having.split is None:
        raise DataError(
            f"{table}: {having.place} has fold={having.fold} and no split; add the column split, train for the images "
            "of the folds and test for those that judge the result, or leave the column fold out"
        )
    for row in rows:
        if row.split == "test" and row.fold is not None:
            raise DataError(
                f"{table}: {row.place} has fold={row.fold} in split test, which no fold trains on; leave it empty"
            )
        if row.split != "test" and row.fold is None:
            raise DataError(
                f"{table}: {row.place} has no fold, {having.place} has fold={having.fold}; fill in the column in every "
                "row that is not test, or leave it out"
            )


def _refuse_torn_groups(table: str, rows: Iterable[LabelRow]) -> None:
    first: dict[str, LabelRow] = {}
    for row in rows:
        if row.group is None:
            continue
        before = first.setdefault(row.group, row)
        if before.split != row.split:
            raise DataError(
                f"{table}: group {row.group!r} is in split {before.split} ({before.place}) and in split {row.split} "
                f"({row.place}); a group stays in one split, move its images together"
            )
        if before.fold != row.fold:
            raise DataError(
                f"{table}: group {row.group!r} is in fold {before.fold} ({before.place}) and in fold {row.fold} "
                f"({row.place}); a group stays in one fold, move its images together"
            )


class _Below:
    """Tells paths that symbolic links lead out of the root; each folder is resolved once."""

    def __init__(self, root: bytes, table: str) -> None:
        self.root = root
        self._table = table
        self._real = os.path.realpath(root)
        self._folders: dict[bytes, bytes] = {}

    def check(self, row: LabelRow) -> None:
        """Raises DataError where the file that the row's path leads to lies outside of the root."""
        folder, name = posixpath.split(row.relative_path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(posixpath.join(self.root, folder))
        real = posixpath.join(self._folders[folder], name)
        if os.path.islink(real):  # noqa: PTH114  pathlib knows no paths of bytes
            real = os.path.realpath(real)
        if real != self._real and not real.startswith(self._real.rstrip(b"/") + b"/"):
            raise DataError(
                f"{self._table}: {row.place} has path={_text(row.relative_path)!r}, which leads to "
                f"{os.fsdecode(real)!r}, outside of data.root={os.fsdecode(self.root)}; put the image below it, or "
                "set data.root higher up"
            )


def _status(path: bytes) -> os.stat_result | str:
    """That of the regular file that a path leads to, or why there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116  pathlib knows no paths of bytes
    except OSError as error:
        broken = os.path.islink(path)  # noqa: PTH114
        return f"broken link: {error.strerror}" if broken else error.strerror or str(error)
    return found if stat.S_ISREG(found.st_mode) else "no regular file"


def _text(relative_path: bytes) -> str:
    return relative_path.decode()
