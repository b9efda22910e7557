"""Writes a file that appears under its name whole, or replaces another one at once."""

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PART = ".part-"
"""How the names of unfinished files begin."""


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A stream to a file beside `path`, which takes the name `path` at the end and is removed after an error.

    A reader sees the old file or the new one, also after a power cut: the bytes are on disk before the name is. Raises
    OSError.
    """
    temporary = path.parent / f"{PART}{path.name[:100]}-{secrets.token_hex(4)}"
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
