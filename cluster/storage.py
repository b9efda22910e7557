"""Durable storage: whole files under a root on any pyarrow filesystem, written so that they are never seen in part."""

# pyarrow carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

import errno
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pyarrow
from pyarrow import fs

from cluster.errors import StorageError

_TEMPORARY = ".part-"


class Store:
    """Files under one root; paths are relative with "/" between parts. Failures raise StorageError."""

    def __init__(self, filesystem: fs.FileSystem, root: str, uri: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self.uri = uri.rstrip("/")
        """Where the root is, for people and for `open`."""
        self._local = isinstance(filesystem, fs.LocalFileSystem)

    @classmethod
    def open(cls, root: str) -> Self:
        """A store at a folder (created when first written to) or at a URI such as s3://bucket/prefix."""
        if "://" not in root:
            absolute = str(Path(root).expanduser().absolute())
            return cls(fs.LocalFileSystem(), absolute, absolute)
        try:
            filesystem, path = fs.FileSystem.from_uri(root)
        except (pyarrow.ArrowException, ValueError, OSError) as error:
            raise StorageError(
                f"storage {root!r} cannot be opened ({error}); give a folder or a URI such as s3://bucket/prefix"
            ) from error
        return cls(filesystem, path, root)

    def child(self, path: str) -> Self:
        """The store at a folder below this one."""
        return type(self)(self._filesystem, self._full(path), f"{self.uri}/{path}")

    def write(self, path: str, data: bytes) -> None:
        """Create or replace a file with `data`, whole or not at all."""
        with self._explained("written", path):
            if self._local:
                self._write_local(Path(self._full(path)), data)
            else:
                with self._filesystem.open_output_stream(self._full(path)) as stream:
                    stream.write(data)

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        with self._explained("read", path), self._filesystem.open_input_file(self._full(path)) as stream:
            return stream.read()

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder of that path."""
        with self._explained("read", path):
            return self._filesystem.get_file_info(self._full(path)).type != fs.FileType.NotFound

    def list(self, path: str) -> list[str]:
        """Names of the files and folders in a folder, sorted; none where there is no such folder."""
        selector = fs.FileSelector(self._full(path), allow_not_found=True)
        with self._explained("listed", path):
            names = [info.base_name for info in self._filesystem.get_file_info(selector)]
        return sorted(name for name in names if not name.startswith(_TEMPORARY))

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing where there is none."""
        full = self._full(path)
        with self._explained("deleted", path), suppress(FileNotFoundError):
            if self._filesystem.get_file_info(full).type == fs.FileType.Directory:
                self._filesystem.delete_dir(full)
            elif self.exists(path):
                self._filesystem.delete_file(full)

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _write_local(self, path: Path, data: bytes) -> None:
        """Through a temporary file beside it: a reader sees the old file or the new one, also after a power cut."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{_TEMPORARY}{path.name}-{secrets.token_hex(4)}"
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @contextmanager
    def _explained(self, done: str, path: str) -> Generator[None]:
        try:
            yield
        except (OSError, pyarrow.ArrowException) as error:
            place = f"{self.uri}/{path}" if path else self.uri
            raise StorageError(f"{place} could not be {done}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return (
            "no space is left there; what was stored before is intact: free space or raise the quota, then start the "
            "same command again"
        )
    if code in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "no permission; grant access or choose another --storage.root"
    if code == errno.ENOENT:
        return "there is no such file; check the address"
    return f"{error}; check the address and the connection"
