"""A file of storage fetched to this machine: every byte there or none, tried again where another try may do better."""

# pyarrow carries no types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import errno
import hashlib
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow

from cluster.errors import StorageError
from cluster.storage.failure import why
from cluster.storage.store import Store, StoredFile

_TRIES = 4
_PAUSE_S = 0.5
_MOST_AT_ONCE = 1 << 26
"""Bytes of one read: a file of less is read at once, and so never half from before a change and half from after it."""
_CHANGED = "it has changed since"
_YOUNG_NS = 30 * 10**9
"""A file that was written so shortly before it is fetched may be written again without its time telling."""


@dataclass(frozen=True)
class Wanted:
    """A file of a mirror as another node has it."""

    size: int
    """Bytes."""
    mtime_ns: int
    content: str
    """BLAKE2b-128 of its bytes, in hex."""


def download(store: Store, path: str, file: StoredFile, wanted: Wanted | None, part: Path, target: Path) -> None:
    """Write the file's bytes to `part`, which gets the file's time of modification; errors name `target`.

    Raises StorageError for a file that is gone, differs from `wanted`, did not come whole in several tries, or cannot
    be written.
    """
    began_ns = 0
    for turn in range(1, _TRIES + 1):
        began_ns = time.time_ns()
        problem = _downloaded(store, path, file, wanted, part, target)
        if problem is None:
            break
        now = store.file(path)
        certain = "it is gone" if now is None else ""
        if now is not None and wanted is not None and (problem == _CHANGED or now.size != wanted.size):
            certain = f"{_CHANGED} it was indexed"
        if certain or turn == _TRIES:
            raise StorageError(f"{store.place(path)} could not be fetched: {certain or problem}; start again")
        file = file if wanted is not None or now is None else now
        time.sleep(_PAUSE_S * 2 ** (turn - 1))
    # A young file gets one nanosecond more, so that it counts as changed the next time and is fetched again.
    is_young = wanted is None and file.mtime_ns > began_ns - _YOUNG_NS
    mtime_ns = file.mtime_ns + int(is_young)
    with writing(target):
        os.utime(part, ns=(mtime_ns, mtime_ns))


@contextmanager
def writing(place: Path) -> Generator[None]:
    """Raise StorageError for an OSError: what it means that `place` cannot be written, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
            reason = f"this file system has no locks ({error.strerror}); name a folder of a local disk"
        else:
            reason = why(error, place, "folder")
        raise StorageError(f"{place} could not be written: {reason} (--data.cache_dir)") from error


def _downloaded(
    store: Store, path: str, file: StoredFile, wanted: Wanted | None, part: Path, target: Path
) -> str | None:
    """Write the file's bytes to `part`; None, or why another try may do better."""
    digest, came = hashlib.blake2b(digest_size=16), 0
    with writing(target):
        written = part.open("wb")
    try:
        with written, store.reading(path) as stream:
            while data := stream.read(min(file.size - came, _MOST_AT_ONCE) + 1):
                came += len(data)
                digest.update(data)
                if came > file.size:
                    break
                with writing(target):
                    written.write(data)
                    written.flush()
    except FileNotFoundError:
        return "it is gone"
    except (OSError, pyarrow.ArrowException) as error:
        return why(error, None, "--data.root")
    if came != file.size:
        return f"{'more than ' * (came > file.size)}{min(came, file.size)} bytes of {file.size} came"
    if wanted is not None and digest.hexdigest() != wanted.content:
        return _CHANGED
    return None
