"""Turns the images of an ImageFolder that can be read into rows."""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.image_folder import Listing, class_names, list_image_folder, quoted
from data_pipeline.samples import Decode, Samples, key_of, sample_id_of
from data_pipeline.scan import Header, Probe, Progress, scan
from data_pipeline.scan_cache import ReadableFile, ScanCache

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
    """Entries of the folder that are not named like images, or lie outside of class folders."""

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2b-128, in hex, of the classes in order and of every sample's id, label and content."""
        samples = self.samples
        digest = hashlib.blake2b(digest_size=16)
        for name in (str(len(samples.classes)), *samples.classes):
            digest.update(name.encode() + b"\0")
        for row in sorted(zip(samples.sample_ids, samples.labels.tolist(), samples.content, strict=True)):
            digest.update(b"".join(str(part).encode() + b"\0" for part in row))
        return digest.hexdigest()

    def rows(self, split: str) -> NDArray[np.int64]:
        """Positions of a split's rows, ascending: int64 [N]."""
        return np.array([row for row, name in enumerate(self.splits) if name == split], dtype=np.int64)


def index_folder(
    data: DataConfig,
    decode: Decode,
    header: Header,
    probe: Probe | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Index the ImageFolder `data.root`: train/, val/, [test/] with class folders in them, or only class folders.

    Class folders are searched to any depth, symbolic links are followed, hidden entries do not exist. Every image
    is read once, see `scan`. Raises DataError where the folder is no ImageFolder of at least two classes with
    training images, or where images cannot be read and `data.on_unreadable` is "error".
    """
    listing = list_image_folder(data)
    classes = class_names(listing)
    root = os.fsencode(listing.root)
    probe_name = f"{probe.__module__}.{getattr(probe, '__qualname__', type(probe).__qualname__)}" if probe else ""
    cache = ScanCache.of(data, root, probe_name)
    scanned = scan(root, listing.images, decode, header, probe, cache, os.cpu_count() or 1, progress)

    rows: list[tuple[str, str | None, str, ReadableFile]] = []
    unreadable = list(listing.broken)
    for image, result in zip(listing.images, scanned, strict=True):
        sample_id = sample_id_of(image.relative_path)
        found = result if isinstance(result, str) else _wide_enough(data, result)
        if isinstance(found, str):
            unreadable.append((sample_id, found))
        else:
            rows.append((sample_id, image.split, image.class_name, found))
    if unreadable:
        _judge_unreadable(data, listing, classes, sorted(unreadable), rows)
    rows.sort(key=lambda row: row[0])
    label_of = {name: label for label, name in enumerate(classes)}
    return Dataset(
        samples=Samples(
            root=str(listing.root),
            classes=classes,
            sample_ids=tuple(sample_id for sample_id, _, _, _ in rows),
            keys=np.array([key_of(sample_id) for sample_id, _, _, _ in rows], dtype=np.uint64),
            labels=np.array([label_of[name] for _, _, name, _ in rows], dtype=np.int64),
            sizes=np.array([(file.width, file.height) for _, _, _, file in rows], dtype=np.int32),
            plain=np.array([file.plain for _, _, _, file in rows], dtype=np.bool_),
            content=tuple(file.content for _, _, _, file in rows),
        ),
        splits=tuple(split for _, split, _, _ in rows),
        groups=(None,) * len(rows),
        unreadable=tuple(sorted(unreadable)),
        ignored=listing.ignored,
    )


def _wide_enough(data: DataConfig, file: ReadableFile) -> ReadableFile | str:
    """The file, or why it has no centre crop: resized by its shorter side, the longer one would grow without bound."""
    shorter, longer = sorted((file.width, file.height))
    side = data.image_size / data.crop_fraction
    if data.resize == "center_crop" and side * side * longer / shorter > data.max_pixels:
        return f'{file.width}x{file.height} is too narrow for data.resize="center_crop"; use "letterbox"'
    return file


def _judge_unreadable(
    data: DataConfig,
    listing: Listing,
    classes: tuple[str, ...],
    unreadable: list[tuple[str, str]],
    rows: list[tuple[str, str | None, str, ReadableFile]],
) -> None:
    """Raise DataError unless the images may be left out and every class has training images without them."""
    lines = [f"  {sample_id!r}: {reason}" for sample_id, reason in unreadable[:_LISTED]]
    if len(unreadable) > _LISTED:
        lines.append(f"  and {len(unreadable) - _LISTED} more")
    summary = f"{len(unreadable)} of {len(unreadable) + len(rows)} images in {listing.root} cannot be read"
    if data.on_unreadable == "error":
        remedy = 'repair or remove them, or set data.on_unreadable="skip" to leave them out:'
        raise DataError("\n".join([f"{summary}; {remedy}", *lines]))
    left = {name for _, split, name, _ in rows if split in (None, "train")}
    if emptied := [name for name in classes if name not in left]:
        have = "has" if len(emptied) == 1 else "have"
        remedy = f"without them {quoted(emptied)} {have} no training image; repair them, or remove the class:"
        raise DataError("\n".join([f"{summary}; {remedy}", *lines]))
