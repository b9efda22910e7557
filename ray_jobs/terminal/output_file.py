"""The file of `--output`: there whole or not at all."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from cluster.errors import StorageError
from cluster.storage.whole_file import replacing


@contextmanager
def output_file(path: Path) -> Generator[BinaryIO]:
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
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(replacing(place))
        except OSError as error:
            raise StorageError(f"--output {path} cannot be written ({error.strerror}); name another file") from error
        yield stream
