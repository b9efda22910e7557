"""One process of a node changes a folder while nobody reads it; then many read it while nobody changes it."""

import fcntl
import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from cluster.errors import StorageError

_POLL_S = 0.1


class ReaderLock:
    """Held by the only process that may change a folder; from `share` on by one of those that read it.

    The locks go with the process that holds them.
    """

    def __init__(self, uri: str, readers: int, writer: int) -> None:
        """Of `taken`: descriptors of two files."""
        self._uri = uri
        self._readers = readers
        self._writer = writer
        self._alone = False
        self._turn = threading.Lock()

    @classmethod
    @contextmanager
    def taken(cls, place: Path, uri: str) -> Generator[Self]:
        """Wait until no other process changes what is kept of `uri`; the files of the locks are in `place`.

        Raises OSError where a file system has no locks.
        """
        readers = os.open(place / "readers", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            writer = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                while not _locked(writer, fcntl.LOCK_EX):
                    time.sleep(_POLL_S)
                yield cls(uri, readers, writer)
            finally:
                os.close(writer)
        finally:
            os.close(readers)

    def exclude_readers(self) -> None:
        """From here on nobody reads, until `share`. Raises StorageError where another process does."""
        with self._turn:
            if not self._alone and not _locked(self._readers, fcntl.LOCK_EX):
                raise StorageError(
                    f"the files of {self._uri} have changed, and another job on this node still reads them as they "
                    "were; wait until it has ended, or fetch them to another folder with --data.cache_dir"
                )
            self._alone = True

    def share(self) -> None:
        """All is as it should be: read it, and let others change or read it."""
        fcntl.flock(self._readers, fcntl.LOCK_SH)
        fcntl.flock(self._writer, fcntl.LOCK_UN)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
