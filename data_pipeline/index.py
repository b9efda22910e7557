"""Finds the images of an ImageFolder and turns those that can be read into rows."""

import hashlib
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.samples import Decode, Samples, key_of, sample_id_of
from data_pipeline.scan import FoundFile, Header, Probe, Progress, ReadableFile, ScanCache, scan

SPLITS = ("train", "val", "test")
EXTENSIONS = (b"jpg", b"jpeg", b"png", b"bmp", b"tif", b"tiff", b"webp", b"ppm", b"pgm")

_LISTED = 20
_OTHER_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


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
    """Entries of the folder that are no images by their names, or lie outside of class folders."""

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

    def rows(self, split: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Positions of a split's rows: int64, ascending."""
        return np.array([row for row, name in enumerate(self.splits) if name == split], dtype=np.int64)


def index_folder(
    data: DataConfig,
    decode: Decode,
    header: Header,
    probe: Probe | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Index the ImageFolder `data.root`: train/, val/, [test/] with class folders in them, or only class folders.

    Class folders are searched to any depth; symbolic links are followed, each folder is entered once per class, and
    hidden entries do not exist. Every image is read once, see `scan`. Raises DataError where the folder is no
    ImageFolder of at least two classes, or images cannot be read and `data.on_unreadable` is "error".
    """
    root = _existing_root(data)
    listing = _listed(root)
    classes = _checked_classes(listing)
    scanned = scan(
        os.fsencode(root),
        [image.file for image in listing.images],
        decode,
        header,
        probe,
        ScanCache.of(data, os.fsencode(root), probe),
        threads=os.cpu_count() or 1,
        progress=progress,
    )
    readable: list[tuple[str, _Image, ReadableFile]] = []
    unreadable = list(listing.broken)
    for image, result in zip(listing.images, scanned, strict=True):
        sample_id = sample_id_of(image.file.relative_path)
        reason = result if isinstance(result, str) else _too_narrow(data, result)
        if isinstance(result, str) or reason:
            unreadable.append((sample_id, reason))
        else:
            readable.append((sample_id, image, result))
    unreadable.sort()
    if unreadable and data.on_unreadable == "error":
        raise DataError(_unreadable_message(root, unreadable, len(unreadable) + len(readable)))
    _refuse_emptied_classes(root, classes, readable, len(unreadable))
    readable.sort(key=lambda row: row[0])
    positions = {name: label for label, name in enumerate(classes)}
    return Dataset(
        samples=Samples(
            root=str(root),
            classes=classes,
            sample_ids=tuple(sample_id for sample_id, _, _ in readable),
            keys=np.array([key_of(sample_id) for sample_id, _, _ in readable], dtype=np.uint64),
            labels=np.array([positions[image.class_name] for _, image, _ in readable], dtype=np.int64),
            sizes=np.array([(file.width, file.height) for _, _, file in readable], dtype=np.int32),
            plain=np.array([file.plain for _, _, file in readable], dtype=np.bool_),
            content=tuple(file.content for _, _, file in readable),
        ),
        splits=tuple(image.split for _, image, _ in readable),
        groups=(None,) * len(readable),
        unreadable=tuple(unreadable),
        ignored=listing.ignored,
    )


@dataclass(frozen=True)
class _Image:
    file: FoundFile
    split: str | None
    class_name: str


@dataclass
class _Listing:
    root: Path
    has_splits: bool
    folders: list[tuple[str | None, str]] = field(default_factory=list[tuple[str | None, str]])
    """(split, class name) of every class folder."""
    images: list[_Image] = field(default_factory=list[_Image])
    broken: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(sample id, reason) of entries named like images that are no files."""
    ignored: int = 0


def _existing_root(data: DataConfig) -> Path:
    if not data.root:
        raise DataError("data.root is empty; set it to a folder with one folder of images per class")
    root = Path(data.root).expanduser().absolute()
    if not root.is_dir():
        problem = "is no folder" if root.exists() else "does not exist"
        raise DataError(f"data.root={data.root} {problem}; set it to a folder with one folder of images per class")
    return root


def _listed(root: Path) -> _Listing:
    base = os.fsencode(root)
    top, files = _children(base)
    names = {os.fsdecode(folder) for folder in top}
    listing = _Listing(root, has_splits=not names.isdisjoint(SPLITS), ignored=files)
    if not listing.has_splits:
        for folder in top:
            _list_class(listing, base, folder, None, folder)
        return listing
    if "train" not in names:
        found = " and ".join(sorted(names.intersection(SPLITS)))
        raise DataError(f"data.root={root} holds {found} but no train; add train/, or leave only class folders there")
    for name in sorted(names.intersection(_OTHER_SPLIT_NAMES)):
        raise DataError(
            f"data.root={root} holds {name}/ next to train/, but splits are called train, val and test; "
            f"rename it to {_OTHER_SPLIT_NAMES[name]} or move it away"
        )
    listing.ignored += len(names.difference(SPLITS))
    for split in sorted(names.intersection(SPLITS)):
        inside = os.fsencode(split)
        folders, files = _children(base + b"/" + inside)
        listing.ignored += files
        for folder in folders:
            _list_class(listing, base, inside + b"/" + folder, split, folder)
    return listing


def _children(path: bytes) -> tuple[list[bytes], int]:
    """Names of a folder's folders, sorted, and how many other entries it has."""
    entries = _entries(path)
    folders = [entry.name for entry in entries if isinstance(mode := _status(entry), os.stat_result) and _is_dir(mode)]
    return folders, len(entries) - len(folders)


def _list_class(listing: _Listing, base: bytes, folder: bytes, split: str | None, name: bytes) -> None:
    """Add the images below a class folder to the listing. `folder` is relative to `base`."""
    class_name = sample_id_of(name)
    listing.folders.append((split, class_name))
    entered: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        inside = waiting.pop()
        for entry in _entries(base + b"/" + inside):
            relative_path = inside + b"/" + entry.name
            status = _status(entry)
            if isinstance(status, os.stat_result) and _is_dir(status):
                # A link to a folder above would otherwise be entered for ever.
                if (status.st_dev, status.st_ino) not in entered:
                    entered.add((status.st_dev, status.st_ino))
                    waiting.append(relative_path)
            elif entry.name.rpartition(b".")[2].lower() not in EXTENSIONS:
                listing.ignored += 1
            elif isinstance(status, str):
                listing.broken.append((sample_id_of(relative_path), status))
            elif not stat.S_ISREG(status.st_mode):
                listing.broken.append((sample_id_of(relative_path), "no regular file"))
            else:
                found = FoundFile(relative_path, status.st_size, status.st_mtime_ns)
                listing.images.append(_Image(found, split, class_name))


def _entries(path: bytes) -> list[os.DirEntry[bytes]]:
    """The entries that are not hidden, by name, so that the listing is the same on every file system."""
    try:
        with os.scandir(path) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(b".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{sample_id_of(path)} cannot be listed: {error.strerror}; make it readable") from error


def _status(entry: os.DirEntry[bytes]) -> os.stat_result | str:
    """What a link leads to, or why it leads nowhere."""
    try:
        return entry.stat()
    except OSError as error:
        return f"broken link: {error.strerror}" if entry.is_symlink() else str(error.strerror)


def _is_dir(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode)


def _checked_classes(listing: _Listing) -> tuple[str, ...]:
    """The class names, sorted: those of train where there is one. Raises DataError where they cannot be trained on."""
    split = "train" if listing.has_splits else None
    place = listing.root / "train" if listing.has_splits else listing.root
    classes = tuple(sorted({name for where, name in listing.folders if where == split}))
    if not classes:
        raise DataError(f"{place} holds no class folders; put the images of each class into a folder of its name")
    if len(classes) == 1:
        raise DataError(f"{place} holds one class, {classes[0]!r}; a classifier needs images of at least two")
    filled = {(image.split, image.class_name) for image in listing.images}
    if empty := [name for name in classes if (split, name) not in filled]:
        kinds = ", ".join(extension.decode() for extension in EXTENSIONS)
        raise DataError(f"{_named(empty)} in {place}: no image there ({kinds}); add some, or remove the folder")
    for other, name in sorted(filled, key=str):
        if name not in classes:
            raise DataError(
                f"{listing.root}/{other} holds images of class {name!r}, which train lacks; add the class to train "
                f"or remove {other}/{name}"
            )
    return classes


def _too_narrow(data: DataConfig, file: ReadableFile) -> str:
    """Why a centre crop of a file cannot be made, empty where it can: its longer side would grow without bound."""
    if data.resize != "center_crop":
        return ""
    side = data.image_size / data.crop_fraction
    if side * side * max(file.width, file.height) / min(file.width, file.height) <= data.max_pixels:
        return ""
    return f'{file.width}x{file.height} is too narrow for data.resize="center_crop"; use "letterbox"'


def _unreadable_message(root: Path, unreadable: list[tuple[str, str]], count: int) -> str:
    lines = [f"  {sample_id!r}: {reason}" for sample_id, reason in unreadable[:_LISTED]]
    if len(unreadable) > _LISTED:
        lines.append(f"  and {len(unreadable) - _LISTED} more")
    return "\n".join(
        [
            f"{len(unreadable)} of {count} images in {root} cannot be read; repair or remove them, or set "
            'data.on_unreadable="skip" to leave them out:',
            *lines,
        ]
    )


def _refuse_emptied_classes(
    root: Path, classes: tuple[str, ...], readable: list[tuple[str, _Image, ReadableFile]], left_out: int
) -> None:
    left = Counter(image.class_name for _, image, _ in readable if image.split in (None, "train"))
    if empty := [name for name in classes if not left[name]]:
        raise DataError(
            f"{_named(empty)} in {root}: no readable training image is left, {left_out} of all images cannot be read "
            "and were left out; repair them, or remove the folder"
        )


def _named(classes: list[str]) -> str:
    shown = ", ".join(repr(name) for name in classes[:_LISTED])
    more = f" and {len(classes) - _LISTED} more" if len(classes) > _LISTED else ""
    return f"class{'es' if len(classes) > 1 else ''} {shown}{more}"
