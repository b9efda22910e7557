"""The file of `--output`: there whole or not at all."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from cluster.errors import StorageError
from cluster.storage.failure import explained
from cluster.storage.outage import Patience
from cluster.storage.whole_file import PART, replacing

_AT_ONCE = Patience(0.0, lambda _: None)


@contextmanager
def output_file(path: Path, patience: Patience = _AT_ONCE) -> Generator[BinaryIO]:
    """Within, what is written goes to a temporary file; at the end it takes the place of `path`, after an error it is
    gone.

    The temporary file is on this machine, so that storage may be away meanwhile; at the end it is waited for with
    `patience`. What is no regular file, such as /dev/null or a pipe, is written to as it is. Raises StorageError where
    the folder is not there or cannot be written to, before anything is written.
    """
    given = path.expanduser()
    if given.is_dir():
        raise StorageError(f"--output {path} is a folder; name a file")
    if given.exists() and not given.is_file():
        with given.open("wb") as stream:
            yield stream
        return
    place = given.resolve()  # a link stays one; that of a pipe, as /dev/fd/63 is, leads nowhere
    try:
        with tempfile.TemporaryFile(prefix=PART, dir=place.parent):
            pass
    except OSError as error:
        raise StorageError(f"--output {path} cannot be written ({error.strerror}); name another file") from error
    with tempfile.TemporaryFile(prefix="rd-output-") as stream:
        written = cast("BinaryIO", stream)
        yield written
        patience.wait_out(partial(_copy, written, place, path))


def _copy(stream: BinaryIO, place: Path, path: Path) -> None:
    """Raises StorageError, StorageOutageError where the folder is away."""
    stream.seek(0)
    try:
        with replacing(place) as target:
            shutil.copyfileobj(stream, target, 1 << 20)
    except OSError as error:
        raise explained(
            error, f"--output {path} could not be written", place.parent, "--output", place.parent
        ) from error
