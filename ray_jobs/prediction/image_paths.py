"""The images that `predict` answers: files, folders, patterns and lists, one path after the other.

Paths stay as they were given; names that are not UTF-8 are carried as Python carries them (surrogateescape).
"""

import glob
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from data_pipeline.errors import DataError
from data_pipeline.listing.image_names import EXTENSIONS

LIST = "-"
"""Stands for a list of paths on stdin."""
_LONGEST_LINE = 65536


def check_paths(paths: Iterable[str]) -> None:
    """Know before anything is loaded that each path is there. Raises DataError for the first that is not."""
    for path in paths:
        if path == LIST or os.path.lexists(path):
            continue
        if not glob.has_magic(path):
            raise DataError(f"{path}: there is no such file or folder; give images, folders, patterns, or - for a list")
        if next(_fitting(path), None) is None:
            raise DataError(f"{path}: no file fits this pattern; quote it so that ** is not the shell's, or correct it")


def image_paths(paths: Iterable[str], stdin: BinaryIO) -> Iterator[str]:
    """Each image's path: a file as it is, of a folder those named like images, in order, of a pattern what fits it.

    Of `stdin`, for LIST, each line is a file. At any time the names of the folders on the way down are in memory, or
    what fits one pattern. Raises DataError for a folder that cannot be listed.
    """
    for path in paths:
        if path == LIST:
            yield from _listed(stdin)
        elif os.path.lexists(path):
            yield from _of(path)
        else:
            for found in sorted(_fitting(path)):
                # With ** a pattern fits folders as well as all that is in them.
                if not os.path.isdir(found):  # noqa: PTH112 - paths stay as they are
                    yield found


def _fitting(pattern: str) -> Iterator[str]:
    # Path.glob knows no pattern that begins with a root, and paths stay as they are given.
    return glob.iglob(pattern, recursive=True)  # noqa: PTH207


def _of(path: str) -> Iterator[str]:
    if os.path.isdir(path):  # noqa: PTH112
        yield from _below(path, ())
    else:
        yield path


def _below(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """As data sets are listed: without hidden entries, links followed but into a folder that they lie `above`."""
    try:
        status = os.stat(folder)  # noqa: PTH116
        if (identity := (status.st_dev, status.st_ino)) in above:
            return
        with os.scandir(folder) as entries:
            found = sorted((each.name, each.is_dir()) for each in entries if not each.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}); grant access, or remove it") from error
    for name, is_folder in found:
        path = os.path.join(folder, name)  # noqa: PTH118
        if is_folder:
            yield from _below(path, (*above, identity))
        elif os.fsencode(name).lower().endswith(EXTENSIONS):
            yield path


def _listed(stdin: BinaryIO) -> Iterator[str]:
    while line := stdin.readline(_LONGEST_LINE + 1):
        if len(line) > _LONGEST_LINE:
            raise DataError(f"a line of stdin is longer than {_LONGEST_LINE} bytes; give one path on each line")
        if name := line.rstrip(b"\r\n"):
            yield os.fsdecode(name)
