"""An output file that is there whole or not at all."""

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cluster.errors import StorageError


@contextmanager
def whole_file(path: Path) -> Generator[BinaryIO]:
    """Within, what is written goes to a file beside `path`; at the end it takes its place, after an error it goes.

    What is no regular file, such as /dev/null or a pipe, is written to as it is. Raises StorageError where the folder
    is not there or cannot be written to.
    """
    given = path.expanduser()
    if given.is_dir():
        raise StorageError(f"--output {path} is a folder; name a file")
    if given.exists() and not given.is_file():
        with given.open("wb") as stream:
            yield stream
        return
    place = given.resolve()  # a link stays one; that of a pipe, as /dev/fd/63 is, leads nowhere
    temporary = place.parent / f".part-{place.name[:100]}-{secrets.token_hex(4)}"
    try:
        stream = temporary.open("xb")
    except OSError as error:
        raise StorageError(f"--output {path} cannot be written ({error.strerror}); name another file") from error
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(place)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
