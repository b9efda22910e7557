"""Writes a folder that appears under its name whole, or replaces another one at once."""

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.errors import StorageError
from cluster.storage.failure import why

_AT_FDCWD = -100
_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux's renameat2."""
_YOUNG_S = 60.0


@contextmanager
def fresh_folder(target: Path) -> Generator[Path]:
    """An empty folder beside `target`, on the same file system, that is removed at the end unless it was put in place.

    Such folders of killed processes are removed, too. Raises StorageError; then no new folder is left.
    """
    made = [folder for folder in target.parents if not folder.exists()]
    folder = target.parent / f".{target.name}.part-{secrets.token_hex(4)}"
    try:
        with _explained(target):
            folder.mkdir(parents=True)
            held = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # some network file systems lock no folders; then nothing there is ever cleaned
                fcntl.flock(held, fcntl.LOCK_EX)
            _remove_abandoned(target)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)
    except BaseException:
        for each in made:
            with suppress(OSError):  # another process may use it by now
                each.rmdir()
        raise


def put_in_place(folder: Path, target: Path) -> None:
    """Give `folder` the name of `target`; a folder that was there takes the other name. Raises StorageError.

    Where the system cannot exchange two names (others than Linux, some network file systems) there is a moment without
    any `target`, never with half of one.
    """
    with _explained(target):
        if not target.exists() or not any(target.iterdir()):
            folder.rename(target)
        elif not _exchanged(folder, target):
            aside = folder.with_name(f"{folder.name}-old")
            target.rename(aside)
            folder.rename(target)
            aside.rename(folder)
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where that cannot be done here."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _remove_abandoned(target: Path) -> None:
    """A living process holds a lock on its folder, and the kernel lets go of it when the process ends."""
    for left in target.parent.glob(f".{target.name}.part-*"):
        with suppress(OSError):
            # One that is new and empty may not have been locked yet.
            if not any(left.iterdir()) and time.time() - left.stat().st_mtime < _YOUNG_S:
                continue
            held = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)


@contextmanager
def _explained(target: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{target} could not be written: {why(error, target, 'folder')}") from error
