"""Folders that a process needs for a while. Those of killed processes are removed by the next one that needs some."""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = "lock"
"""A file in each folder. A living process holds a lock on it, and the kernel lets go of it when the process ends."""


@contextmanager
def scratch_folder(prefix: str, place: str | None = None) -> Generator[Path]:
    """An empty folder, for this user alone, that is removed at the end; in `place`, by default the system's own place
    for such folders.

    `prefix` begins with "rd-". Those folders of this user there whose processes were killed are removed, too.
    """
    place = place or tempfile.gettempdir()
    remove_abandoned(Path(place))
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    held = -1
    try:
        held = _locked(folder, os.O_CREAT)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held >= 0:
            os.close(held)


def remove_abandoned(place: Path) -> list[Path]:
    """Remove the folders of killed processes in `place`, and return them.

    Only those of this user that have a lock, and one that nobody holds: what has none was made by something else.
    """
    removed: list[Path] = []
    for folder in place.glob("rd-*"):
        with suppress(OSError):  # locked, or removed by another process right now
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
                continue
            held = _locked(folder)
            try:
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
            finally:
                os.close(held)
    return removed


def _locked(folder: Path, flags: int = 0) -> int:
    """A descriptor of the folder's lock, held by this process. Raises OSError where there is none, or it is held.

    Processes that this one starts do not inherit it.
    """
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
