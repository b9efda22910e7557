"""Whether a disk has room for what will be stored."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from cluster.errors import StorageError

_GIB = 1024**3


def existing_folder(root: str) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    folder = Path(root).expanduser().absolute()
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def bytes_below(folder: Path) -> int:
    """What the files in a folder and below it take; 0 where there is none. Others may remove files meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):  # which passes over folders that are gone
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(place) / name).stat().st_size
    return total


def check_room(root: str, needed: int, what: str, remedy: str) -> None:
    """Raise StorageError where the disk of the folder `root`, made yet or not, has less than `needed` bytes free.

    `what` needs them. Nothing is known of a URI.
    """
    if "://" in root:
        return
    folder = existing_folder(root)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder} has {free / _GIB:.2f} GiB free, and {needed / _GIB:.2f} GiB are needed for {what}; {remedy}"
        )
