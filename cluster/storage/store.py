"""Durable storage: whole files under a root on any pyarrow filesystem; a reader never sees part of one."""

# pyarrow carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

import errno
import os
import re
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import pyarrow
from pyarrow import fs

from cluster.errors import StorageError
from cluster.storage.credentials import refuse_credentials
from cluster.storage.whole_file import PART, replacing

_ABANDONED_S = 3600.0
_BAD_KEYS = ("ACCESS_DENIED", "SIGNATURE_DOES_NOT_MATCH", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID")


@dataclass(frozen=True)
class StoredFile:
    """A file in a listing."""

    size: int
    """Bytes."""
    mtime_ns: int
    """When it was last written, in nanoseconds since 1970; object stores know it to the second or so."""


def absolute_root(root: str) -> str:
    """A folder with its whole path, symlinks kept; a URI as it is."""
    return root if "://" in root else os.path.abspath(os.path.expanduser(root))  # noqa: PTH100, PTH111 - keeps symlinks


def child_uri(root: str, path: str) -> str:
    """The address of a folder below another: on this machine, or a URI with its options. Makes no request."""
    if "://" not in root:
        return f"{Path(root).expanduser().absolute()}/{path}"
    place, mark, options = root.partition("?")
    return f"{place.rstrip('/')}/{path}{mark}{options}"


class Store:
    """Files under one root; paths are relative with "/" between parts. Failures raise StorageError."""

    def __init__(self, filesystem: fs.FileSystem, root: str, uri: str, setting: str = "storage.root") -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._setting = setting
        place, mark, options = uri.partition("?")
        self.uri = f"{place.rstrip('/')}{mark}{options}"
        """Where the root is, for people and for `open`."""
        self.local_path = Path(self._root or "/") if isinstance(filesystem, fs.LocalFileSystem) else None
        """The root as a folder of this machine; None for an object store."""

    @classmethod
    def open(cls, root: str, setting: str = "storage.root") -> Self:
        """A store at a folder (created when first written to) or at a URI such as s3://bucket/prefix.

        `setting` is the configuration key that names it, for messages.
        """
        refuse_credentials(root, setting)
        if re.match(r"[a-z][a-z0-9+.-]+:/(?!/)", root):
            raise StorageError(
                f"storage {root!r} is neither a folder nor a URI; write {root.replace(':/', '://', 1)!r}"
            )
        if "://" not in root:
            absolute = str(Path(root).expanduser().absolute())
            return cls(fs.LocalFileSystem(), absolute, absolute, setting)
        try:
            filesystem, path = fs.FileSystem.from_uri(root)
        except (pyarrow.ArrowException, ValueError, OSError) as error:
            raise StorageError(
                f"storage {root!r} cannot be opened ({error}); give a folder or a URI such as s3://bucket/prefix"
            ) from error
        return cls(filesystem, path, root, setting)

    def child(self, path: str) -> Self:
        """The store at a folder below this one."""
        return type(self)(self._filesystem, self._full(path), self.place(path), self._setting)

    def place(self, path: str) -> str:
        """The address of a file or folder here; a URI's options stay at its end."""
        return child_uri(self.uri, path) if path else self.uri

    def write(self, path: str, data: bytes) -> None:
        """Create or replace a file with `data`, whole or not at all."""
        with self._explained("written", path):
            if self.local_path is not None:
                _write_local(Path(self._full(path)), data)
            else:
                with self._filesystem.open_output_stream(self._full(path)) as stream:
                    stream.write(data)

    def read(self, path: str, most: int | None = None) -> bytes:
        """The bytes of a file, or the first `most` of them."""
        with self._explained("read", path), self._filesystem.open_input_file(self._full(path)) as stream:
            # pyarrow reserves memory for all that `read` may return, however little there is.
            return stream.read(None if most is None else min(most, stream.size()))

    def read_or_none(self, path: str, most: int | None = None) -> bytes | None:
        """As `read`, None where there is no such file: `exists` first would cost another request, and miss a change."""
        try:
            return self.read(path, most)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            raise

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder of that path."""
        with self._explained("read", path):
            return self._filesystem.get_file_info(self._full(path)).type != fs.FileType.NotFound

    def list(self, path: str) -> list[str]:
        """Names of the files and folders in a folder, sorted; none where there is no such folder."""
        selector = fs.FileSelector(self._full(path), allow_not_found=True)
        with self._explained("listed", path):
            names = [info.base_name for info in self._filesystem.get_file_info(selector)]
        return sorted(name for name in names if not name.startswith(PART))

    def files(self) -> dict[str, StoredFile]:
        """Every file below the root, at any depth, by its path. Raises StorageError where there is no such folder."""
        with self._explained("listed", ""):
            infos = self._filesystem.get_file_info(fs.FileSelector(self._root, recursive=True))
        # Below, not only from here on: a bucket's own root has no name before its files.
        before = len(self._root) + 1 if self._root else 0
        return {
            info.path[before:]: StoredFile(info.size or 0, info.mtime_ns or 0)
            for info in infos
            if info.type == fs.FileType.File
        }

    def file(self, path: str) -> StoredFile | None:
        """What a listing would say of a file; None where there is none."""
        with self._explained("read", path):
            info = self._filesystem.get_file_info(self._full(path))
        return StoredFile(info.size or 0, info.mtime_ns or 0) if info.type == fs.FileType.File else None

    @contextmanager
    def reading(self, path: str) -> Generator[BinaryIO]:
        """A file's bytes as a stream. Raises OSError or pyarrow's own errors, as each read does."""
        with self._filesystem.open_input_stream(self._full(path)) as stream:
            yield stream

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing where there is none."""
        full = self._full(path)
        with self._explained("deleted", path), suppress(FileNotFoundError):
            if self._filesystem.get_file_info(full).type == fs.FileType.Directory:
                self._filesystem.delete_dir(full)
            elif self.exists(path):
                self._filesystem.delete_file(full)

    def remove_abandoned(self) -> None:
        """Remove what killed writers left in any folder here. Nothing in an object store, where no write leaves parts.

        Only files that nobody has touched for an hour: a younger one may belong to a living writer.
        """
        if self.local_path is None:
            return
        with self._explained("cleaned", ""):
            for left in self.local_path.rglob(f"{PART}*"):
                with suppress(FileNotFoundError):
                    if time.time() - left.stat().st_mtime > _ABANDONED_S:
                        left.unlink()

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    @contextmanager
    def _explained(self, done: str, path: str) -> Generator[None]:
        try:
            yield
        except (OSError, pyarrow.ArrowException) as error:
            reason = why(error, self.local_path, f"--{self._setting}")
            raise StorageError(f"{self.place(path)} could not be {done}: {reason}") from error


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write(data)
    # The new name must be on disk before whatever relies on it, such as the deletion of an older checkpoint.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def why(error: BaseException, folder: Path | None, choice: str = "--storage.root") -> str:
    """What an error of a file system means to a person, and what to do.

    `folder` is where it happened, where that is on this machine; `choice` is what else could be given.
    """
    code = error.errno if isinstance(error, OSError) else None
    if code in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return (
            f"no space is left there{_free(folder)}; what was stored before is intact: free space or raise the quota, "
            "then start the same command again"
        )
    if code in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"no permission; grant access or choose another {choice}"
    if any(name in str(error) for name in _BAD_KEYS):
        return (
            f"the server refuses it ({_reason_of(error)}): no permission for these keys, or none given; set "
            f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, grant access, or choose another {choice}"
        )
    if "NO_SUCH_BUCKET" in str(error):
        return f"there is no such bucket; create it, or correct {choice}"
    if code == errno.ENOENT:
        return "there is no such file; check the address"
    if code in {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}:
        return f"a file stands where a folder must be, or a folder where a file must be ({error}); move it away"
    return f"{error}; check the address and the connection"


def _reason_of(error: BaseException) -> str:
    found = re.search(r"AWS Error (\w+)", str(error))
    return found[1] if found else "access denied"


def _free(folder: Path | None) -> str:
    """The free space as " (1.2 MB free)"; empty where it cannot be seen."""
    existing = [] if folder is None else [each for each in (folder, *folder.parents) if each.is_dir()]
    return f" ({shutil.disk_usage(existing[0]).free / 1e6:.1f} MB free)" if existing else ""
