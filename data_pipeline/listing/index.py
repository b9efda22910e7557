"""Turns the images of an ImageFolder or a labels file that can be read into rows."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.classes import class_names, mapped, quoted
from data_pipeline.listing.image_folder import ListedImage, Listing, list_image_folder
from data_pipeline.listing.label_table import list_label_table
from data_pipeline.listing.samples import Samples, key_of, sample_id_of
from data_pipeline.listing.scan import Memory, Probe, Progress, Readers, scan
from data_pipeline.listing.scan_cache import ReadableFile, ScanCache

_LISTED = 20


@dataclass(frozen=True)
class Dataset:
    """The readable images of a folder, all splits together; `splits` and `groups` are parallel to `samples`."""

    samples: Samples
    splits: tuple[str | None, ...]
    """train, val or test; None where the folder does not say."""
    groups: tuple[str | None, ...]
    """Images that must stay in one split share a group, say the views of one part; None: alone."""
    unreadable: tuple[tuple[str, str], ...]
    """(sample id, reason) of the images that were left out, sorted."""
    ignored: int
    """Entries of the folder that are not named like images, lie outside of class folders or belong to classes that are
    left out."""
    left_out: tuple[tuple[str, int], ...] = ()
    """Of the ignored, files in class folders: (end of the name, how many), sorted."""
    given: str = ""
    """What a labels file says of splits, groups and folds, as a digest; empty where it says nothing, and for folders,
    whose sample ids hold their split."""
    folds: tuple[int | None, ...] = ()
    """Part of a cross-validation of each row, None for test; empty where there is none."""

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2b-128, in hex, of the classes in order and of every sample's id, label and content, and of `given`."""
        samples = self.samples
        digest = hashlib.blake2b(digest_size=16)
        for name in (str(len(samples.classes)), *samples.classes):
            digest.update(name.encode() + b"\0")
        for row in sorted(zip(samples.sample_ids, samples.labels.tolist(), samples.content, strict=True)):
            digest.update(b"".join(str(part).encode() + b"\0" for part in row))
        digest.update(self.given.encode())
        return digest.hexdigest()

    def rows(self, split: str) -> NDArray[np.int64]:
        """Positions of a split's rows, ascending: int64 [N]."""
        return np.array([row for row, name in enumerate(self.splits) if name == split], dtype=np.int64)


def list_images(
    data: DataConfig, *, may_lack_classes: bool = False, group_column: str | None = None
) -> tuple[Listing, tuple[str, ...]]:
    """The images that `data` names, their classes mapped, and the class names in order. Opens no image.

    `group_column` of a labels file names its groups, see `list_label_table`. `may_lack_classes`: see `index_folder`.
    Raises DataError, see there.
    """
    listing = _labelled(data, group_column, may_lack_classes) if data.labels else list_image_folder(data)
    listing = mapped(listing, data, may_lack_classes=may_lack_classes)
    return listing, class_names(listing, data.class_order, may_lack_classes=may_lack_classes)


def _labelled(data: DataConfig, group_column: str | None, may_lack_classes: bool) -> Listing:
    try:
        return list_label_table(data, group_column)
    except DataError:
        if not may_lack_classes or data.folds is None:
            raise
        # The folds are those of other data: a column that does not fit them says nothing of what is judged here.
        return list_label_table(data.model_copy(update={"folds": None, "fold": None}), group_column)


def index_folder(
    data: DataConfig,
    readers: Readers,
    progress: Progress | None = None,
    *,
    may_lack_classes: bool = False,
    memory: Memory | None = None,
    listed: tuple[Listing, tuple[str, ...]] | None = None,
) -> Dataset:
    """Index the ImageFolder `data.root`: train/, val/, [test/] with class folders in them, or only class folders.

    With `data.labels`, the images are those that this file names. Class folders are searched to any depth, symbolic
    links are followed, hidden entries do not exist. Every image is read once, see `scan`. `may_lack_classes`: the
    settings were made for other data, whose classes need not all be here, nor a labels file's folds fit. `memory` of
    earlier scans; None: the folder's `ScanCache`. `listed`: what `list_images` gave, where that is known.
    Raises DataError where the folder is no ImageFolder of at least two classes with training images, or where images
    cannot be read and `data.on_unreadable` is "error".
    """
    listing, classes = listed or list_images(data, may_lack_classes=may_lack_classes)
    root = os.fsencode(listing.root)
    memory = memory or ScanCache.of(data, root, probe_name(readers.probe))
    scanned = scan(root, listing.images, readers, memory, os.cpu_count() or 1, progress)

    rows: list[_Row] = []
    unreadable = [(image.sample_id, image.reason) for image in listing.broken]
    for image, result in zip(listing.images, scanned, strict=True):
        sample_id = sample_id_of(image.relative_path)
        found = result if isinstance(result, str) else _wide_enough(data, result)
        if isinstance(found, str):
            unreadable.append((sample_id, found))
        else:
            rows.append(_Row(sample_id, image, found))
    if unreadable:
        _judge_unreadable(data, listing, classes, sorted(unreadable), rows)
    rows.sort(key=lambda row: row.sample_id)
    label_of = {name: label for label, name in enumerate(classes)}
    return Dataset(
        samples=Samples(
            root=str(listing.root),
            classes=classes,
            sample_ids=tuple(row.sample_id for row in rows),
            keys=np.array([key_of(row.sample_id) for row in rows], dtype=np.uint64),
            labels=np.array([label_of[row.image.class_name] for row in rows], dtype=np.int64),
            sizes=np.array([(row.file.width, row.file.height) for row in rows], dtype=np.int32),
            plain=np.array([row.file.plain for row in rows], dtype=np.bool_),
            content=tuple(row.file.content for row in rows),
        ),
        splits=tuple(row.image.split for row in rows),
        groups=tuple(row.image.group for row in rows),
        unreadable=tuple(sorted(unreadable)),
        ignored=listing.ignored,
        left_out=tuple(sorted(listing.left_out.items())),
        given=_given(rows) if listing.table else "",
        folds=given_folds([row.image for row in rows]),
    )


def probe_name(probe: Probe | None) -> str:
    """What memories of scans tell decoders apart by; empty for the reference."""
    return f"{probe.__module__}.{getattr(probe, '__qualname__', type(probe).__qualname__)}" if probe else ""


def given_folds(images: Sequence[ListedImage]) -> tuple[int | None, ...]:
    """The fold of each image; empty where none has one."""
    folds = tuple(image.fold for image in images)
    return () if set(folds) <= {None} else folds


@dataclass(frozen=True)
class _Row:
    sample_id: str
    image: ListedImage
    file: ReadableFile


def _given(rows: list[_Row]) -> str:
    """BLAKE2b-128, in hex, of each row's split, group and, where there are folds, fold; empty where no row has any."""
    if all(row.image.split is None and row.image.group is None for row in rows):
        return ""  # folds come with splits
    digest = hashlib.blake2b(digest_size=16)
    folds = given_folds([row.image for row in rows])
    for place, row in enumerate(rows):
        fold = (str(folds[place]),) if folds else ()
        for part in (row.sample_id, row.image.split, row.image.group, *fold):
            # A length before each text: no two lists of texts make the same bytes.
            text = (part or "").encode()
            digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def _wide_enough(data: DataConfig, file: ReadableFile) -> ReadableFile | str:
    """The file, or why it has no centre crop: resized until it covers the input, one side would grow without bound."""
    high, wide = (side / data.crop_fraction for side in data.input_size)
    enlarged = max(wide / file.width, high / file.height)
    if data.resize == "center_crop" and enlarged * file.width * (enlarged * file.height) > data.max_pixels:
        return f'{file.width}x{file.height} is too narrow for data.resize="center_crop"; use "letterbox"'
    return file


def _judge_unreadable(
    data: DataConfig,
    listing: Listing,
    classes: tuple[str, ...],
    unreadable: list[tuple[str, str]],
    rows: list[_Row],
) -> None:
    """Raise DataError unless the images may be left out and every class has training images without them."""
    lines = [f"  {sample_id!r}: {reason}" for sample_id, reason in unreadable[:_LISTED]]
    if len(unreadable) > _LISTED:
        lines.append(f"  and {len(unreadable) - _LISTED} more")
    summary = f"{len(unreadable)} of {len(unreadable) + len(rows)} images in {listing.named} cannot be read"
    if data.on_unreadable == "error":
        remedy = 'repair or remove them, or set data.on_unreadable="skip" to leave them out:'
        raise DataError("\n".join([f"{summary}; {remedy}", *lines]))
    left = {row.image.class_name for row in rows if row.image.split in (None, "train")}
    if emptied := [name for name in classes if name not in left]:
        have = "has" if len(emptied) == 1 else "have"
        remedy = f"without them {quoted(emptied)} {have} no training image; repair them, or remove the class:"
        raise DataError("\n".join([f"{summary}; {remedy}", *lines]))
