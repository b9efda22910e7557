"""The bytes of a file that somebody else named: at once, or an error, and never more than fit."""

import errno
import os
import stat
from pathlib import Path


class TooLargeError(OSError):
    """A file has more bytes than are read."""


def read_regular(path: str | Path, most: int) -> bytes:
    """A regular file's bytes, or those that a link leads to.

    A pipe, a socket or a device may wait for ever or never end, and opening one may already do something: it is not
    opened. Raises OSError for those and for what cannot be read; TooLargeError for more than `most` bytes, or more than
    the file says that it has.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - a path may hold what pathlib does not take
        raise _no_regular_file(path)
    # Meanwhile another may have taken its place: opening does not wait for it, and it is looked at again. Not every
    # system knows each of the flags.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:  # noqa: PTH123 - a descriptor
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _no_regular_file(path)
        if status.st_size > most:
            raise TooLargeError(errno.EFBIG, f"more than {most} bytes", str(path))
        # What is asked for is also allocated: no more than there is, and one byte that tells whether there is more.
        data = file.read(status.st_size + 1) or b""  # nothing at all where it would have to wait
    if len(data) > status.st_size:
        raise TooLargeError(errno.EFBIG, "more bytes than it says", str(path))
    return data


def _no_regular_file(path: str | Path) -> OSError:
    if os.path.isdir(path):  # noqa: PTH112
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return OSError(errno.EINVAL, "no regular file", str(path))
