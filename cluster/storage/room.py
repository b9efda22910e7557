"""Whether a disk has room for what will be stored."""

import shutil
from pathlib import Path

from cluster.errors import StorageError

_GIB = 1024**3


def existing_folder(root: str) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    folder = Path(root).expanduser().absolute()
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def bytes_below(folder: Path) -> int:
    """What the files in a folder and below it take; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


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
