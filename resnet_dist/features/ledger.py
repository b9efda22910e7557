"""How many bytes the files of a folder have, over all processes that write to it."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_DIGITS = 20


class Ledger:
    """The total, while its file is locked."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def total(self) -> int:
        """Bytes of all files; if a writer was killed between file and ledger, the next recount corrects the number."""
        text = os.pread(self._descriptor, _DIGITS, 0)
        return int(text) if text.isdigit() else 0

    @total.setter
    def total(self, value: int) -> None:
        # Always as many bytes, so that a disk that fills up later has room for them.
        os.pwrite(self._descriptor, b"%0*d" % (_DIGITS, max(value, 0)), 0)


@contextmanager
def locked(path: Path) -> Generator[Ledger]:
    """Alone among all threads and processes on this machine; the kernel ends it with the process."""
    # A descriptor of its own each time: such locks are between open files, so threads exclude each other too.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield Ledger(descriptor)
    finally:
        os.close(descriptor)
