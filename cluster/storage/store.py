"""Durable storage: whole files under a root on any pyarrow filesystem; a reader never sees part of one."""

# pyarrow carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

import errno
import os
import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import BinaryIO, Concatenate, ParamSpec, Self, TypeVar

import pyarrow
from pyarrow import fs

from cluster.errors import StorageError, StorageOutageError
from cluster.storage.credentials import refuse_credentials
from cluster.storage.failure import explained
from cluster.storage.outage import Patience
from cluster.storage.whole_file import PART, replacing

P = ParamSpec("P")
T = TypeVar("T")

_ABANDONED_S = 3600.0


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


def _patiently(method: Callable[Concatenate["Store", P], T]) -> Callable[Concatenate["Store", P], T]:
    """The method, which a patient store tries again through an outage."""

    @wraps(method)
    def tried(self: "Store", *args: P.args, **kwargs: P.kwargs) -> T:
        return self.retried(lambda: method(self, *args, **kwargs))

    return tried


class Store:
    """Files under one root; paths are relative with "/" between parts.

    Failures raise StorageError, and StorageOutageError where storage is away for now.
    """

    def __init__(self, filesystem: fs.FileSystem, root: str, uri: str, setting: str = "storage.root") -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")
        self._setting = setting
        self._anchor: Path | None = None
        self._patience: Patience | None = None
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
        """The store at a folder below this one, as patient as this one."""
        found = type(self)(self._filesystem, self._full(path), self.place(path), self._setting)
        found._anchor, found._patience = self._anchor, self._patience
        return found

    def settled(self) -> Self:
        """The same store, whose root is there: where it is not, storage is away, and nothing makes the root anew.

        So a folder that is not mounted at the moment, or was moved, is neither filled nor taken for an empty one.
        """
        found = copy(self)
        found._anchor = self.local_path
        return found

    def patient(self, patience: Patience) -> Self:
        """The same store, whose every call but `reading` waits for storage that is away."""
        found = copy(self)
        found._patience = patience
        return found

    def impatient(self) -> Self:
        """The same store, whose calls raise StorageOutageError at once."""
        found = copy(self)
        found._patience = None
        return found

    def retried(self, action: Callable[[], T]) -> T:
        """The result of an action of several calls, all of it tried again through an outage if the store is patient.

        Its calls must be those of an impatient store.
        """
        return action() if self._patience is None else self._patience.wait_out(action)

    def look(self) -> None:
        """Raise StorageOutageError where storage is away, or cannot be written to as far as reading tells."""
        with self._explained("reached", ""):
            if self.local_path is None:
                self._filesystem.get_file_info(self._root)
            elif os.statvfs(self.local_path).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def place(self, path: str) -> str:
        """The address of a file or folder here; a URI's options stay at its end."""
        return child_uri(self.uri, path) if path else self.uri

    @_patiently
    def write(self, path: str, data: bytes) -> None:
        """Create or replace a file with `data`, whole or not at all."""
        with self._explained("written", path):
            if self.local_path is not None:
                _write_local(Path(self._full(path)), data, self._anchor)
            else:
                with self._filesystem.open_output_stream(self._full(path)) as stream:
                    stream.write(data)

    @_patiently
    def read(self, path: str, most: int | None = None) -> bytes:
        """The bytes of a file, or the first `most` of them."""
        with self._explained("read", path), self._filesystem.open_input_file(self._full(path)) as stream:
            # pyarrow reserves memory for all that `read` may return, however little there is.
            return stream.read(None if most is None else min(most, stream.size()))

    def read_or_none(self, path: str, most: int | None = None) -> bytes | None:
        """As `read`, None where there is no such file: `exists` first would cost another request, and miss a change."""
        try:
            return self.read(path, most)
        except StorageOutageError:
            raise
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            raise

    @_patiently
    def exists(self, path: str) -> bool:
        """Whether there is a file or folder of that path."""
        return self._info(path).type != fs.FileType.NotFound

    @_patiently
    def list(self, path: str) -> list[str]:
        """Names of the files and folders in a folder, sorted; none where there is no such folder."""
        selector = fs.FileSelector(self._full(path), allow_not_found=True)
        with self._explained("listed", path):
            names = [info.base_name for info in self._filesystem.get_file_info(selector)]
            if not names:
                self._require_root()
        return sorted(name for name in names if not name.startswith(PART))

    @_patiently
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

    @_patiently
    def file(self, path: str) -> StoredFile | None:
        """What a listing would say of a file; None where there is none."""
        info = self._info(path)
        return StoredFile(info.size or 0, info.mtime_ns or 0) if info.type == fs.FileType.File else None

    @contextmanager
    def reading(self, path: str) -> Generator[BinaryIO]:
        """A file's bytes as a stream. Raises OSError or pyarrow's own errors, as each read does."""
        with self._filesystem.open_input_stream(self._full(path)) as stream:
            yield stream

    @_patiently
    def delete(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing where there is none."""
        full, kind = self._full(path), self._info(path).type
        with self._explained("deleted", path), suppress(FileNotFoundError):
            if kind == fs.FileType.Directory:
                self._filesystem.delete_dir(full)
            elif kind != fs.FileType.NotFound:
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

    def _info(self, path: str) -> fs.FileInfo:
        with self._explained("read", path):
            info = self._filesystem.get_file_info(self._full(path))
            if info.type == fs.FileType.NotFound:
                self._require_root()
            return info

    def _require_root(self) -> None:
        """What is not found may be away with the whole root. Raises OSError then."""
        if self._anchor is not None:
            self._anchor.stat()

    @contextmanager
    def _explained(self, done: str, path: str) -> Generator[None]:
        try:
            yield
        except (OSError, pyarrow.ArrowException) as error:
            place, choice = f"{self.place(path)} could not be {done}", f"--{self._setting}"
            raise explained(error, place, self.local_path, choice, self._anchor) from error


def _write_local(path: Path, data: bytes, anchor: Path | None) -> None:
    """`anchor`: a folder above, which is not made where it is absent."""
    if anchor is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        for folder in reversed([each for each in path.parents if each.is_relative_to(anchor) and each != anchor]):
            folder.mkdir(exist_ok=True)
    with replacing(path) as stream:
        stream.write(data)
    # The new name must be on disk before whatever relies on it, such as the deletion of an older checkpoint.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
