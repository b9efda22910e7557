"""Lists the images of an ImageFolder and their classes, without opening a file."""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.image_names import EXTENSIONS
from data_pipeline.listing.samples import sample_id_of

SPLITS = ("train", "val", "test")

OTHER_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "testing": "test"}


@dataclass(frozen=True)
class ListedImage:
    """A regular file that is named like an image and lies in a class folder, or that a labels file names."""

    relative_path: bytes
    size: int
    """Bytes."""
    mtime_ns: int
    split: str | None
    """The split folder it lies in; None where the root has only class folders."""
    class_name: str
    group: str | None = None
    """Images of one group stay in one split; None: alone."""
    fold: int | None = None
    """Part of a cross-validation, where a labels file says so and `data.folds` asks for it."""


@dataclass(frozen=True)
class BrokenImage:
    """What should be an image and is no file."""

    sample_id: str
    reason: str
    split: str | None
    class_name: str


@dataclass
class Listing:
    """What a data set holds. Class names are `sample_id_of` the folders' names, or as a labels file has them."""

    root: Path
    has_splits: bool
    table: str = ""
    """The labels file that names the images; empty where folders do."""
    class_folders: list[tuple[str | None, str]] = field(default_factory=list[tuple[str | None, str]])
    """(split, class name)."""
    images: list[ListedImage] = field(default_factory=list[ListedImage])
    broken: list[BrokenImage] = field(default_factory=list[BrokenImage])
    """Entries named like images that are no files."""
    ignored: int = 0
    """Entries not named like images, outside of class folders, or of classes that are left out."""
    left_out: Counter[str] = field(default_factory=Counter[str])
    """Of the ignored, files in class folders by the end of their name, in lower case with its dot."""

    @property
    def named(self) -> str:
        """What lists the images, for a message."""
        return self.table or str(self.root)

    def place(self, split: str | None) -> str:
        """Where the images of a split are listed, for a message."""
        if self.table:
            return f"split {split} of {self.table}" if split else self.table
        return str(self.root / (split or ""))


def list_image_folder(data: DataConfig) -> Listing:
    """List `data.root`. Raises DataError where it is no folder, or its splits have other names than ours."""
    root = existing_root(data)
    base = os.fsencode(root)
    folders, others = _children(base)
    names = {os.fsdecode(folder) for folder in folders}
    listing = Listing(root, has_splits=not names.isdisjoint(SPLITS), ignored=others)
    if not listing.has_splits:
        for folder in folders:
            _list_class(listing, base, folder, None)
        return listing
    if "train" not in names:
        found = " and ".join(f"{name}/" for name in sorted(names.intersection(SPLITS)))
        raise DataError(f"data.root={root} holds {found} but no train/; add it, or leave only class folders there")
    for name in sorted(names.intersection(OTHER_SPLIT_NAMES)):
        raise DataError(
            f"data.root={root} holds {name}/ next to train/, but splits are called train, val and test; "
            f"rename it to {OTHER_SPLIT_NAMES[name]}/ or move it away"
        )
    listing.ignored += len(names.difference(SPLITS))
    for split in sorted(names.intersection(SPLITS)):
        folders, others = _children(base + b"/" + split.encode())
        listing.ignored += others
        for folder in folders:
            _list_class(listing, base, split.encode() + b"/" + folder, split)
    return listing


def existing_root(data: DataConfig) -> Path:
    """The folder `data.root`, absolute. Raises DataError where it is none."""
    wanted = "set it to a folder with one folder of images per class"
    if not data.root:
        raise DataError(f"data.root is empty; {wanted}")
    root = Path(data.root).expanduser().absolute()
    if not root.is_dir():
        raise DataError(f"data.root={data.root} {'is no folder' if root.exists() else 'does not exist'}; {wanted}")
    return root


def _children(path: bytes) -> tuple[list[bytes], int]:
    """Names of a folder's folders, sorted, and how many other entries it has."""
    entries = _entries(path)
    folders = [entry.name for entry in entries if _is_folder(_status(entry))]
    return folders, len(entries) - len(folders)


def _list_class(listing: Listing, base: bytes, folder: bytes, split: str | None) -> None:
    """Add the images below a class folder, `folder` relative to `base`, to the listing.

    A folder is entered once, and those above the class folder never: links to them would lead in circles.
    """
    class_name = sample_id_of(folder.rpartition(b"/")[2])
    listing.class_folders.append((split, class_name))
    parts = folder.split(b"/")
    above = [os.stat(b"/".join([base, *parts[:depth]])) for depth in range(len(parts) + 1)]  # noqa: PTH116  bytes
    entered = {(status.st_dev, status.st_ino) for status in above}
    waiting = [folder]
    while waiting:
        inside = waiting.pop()
        for entry in _entries(base + b"/" + inside):
            path = inside + b"/" + entry.name
            status = _status(entry)
            if not isinstance(status, str) and _is_folder(status):
                if (identity := (status.st_dev, status.st_ino)) not in entered:
                    entered.add(identity)
                    waiting.append(path)
            elif not entry.name.lower().endswith(EXTENSIONS):
                listing.ignored += 1
                listing.left_out[sample_id_of(os.path.splitext(entry.name)[1].lower())] += 1  # noqa: PTH122  bytes
            elif isinstance(status, str):
                listing.broken.append(BrokenImage(sample_id_of(path), status, split, class_name))
            elif not stat.S_ISREG(status.st_mode):
                listing.broken.append(BrokenImage(sample_id_of(path), "no regular file", split, class_name))
            else:
                listing.images.append(ListedImage(path, status.st_size, status.st_mtime_ns, split, class_name))


def _entries(path: bytes) -> list[os.DirEntry[bytes]]:
    """The entries that are not hidden, sorted by name: file systems list them in any order."""
    try:
        with os.scandir(path) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(b".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{sample_id_of(path)} cannot be listed: {error.strerror}; make it readable") from error


def _status(entry: os.DirEntry[bytes]) -> os.stat_result | str:
    """That of what a link leads to, or why it leads nowhere."""
    try:
        return entry.stat()
    except OSError as error:
        return f"broken link: {error.strerror}" if entry.is_symlink() else str(error.strerror)


def _is_folder(status: os.stat_result | str) -> bool:
    return not isinstance(status, str) and stat.S_ISDIR(status.st_mode)
