"""A node's own copy of the files below a URI: training reads images many times, and decoders read folders."""

# pyarrow carries no types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import errno
import fcntl
import filecmp
import hashlib
import os
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Generator, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow

from cluster.errors import StorageError
from cluster.storage.store import Store, StoredFile, why

Show = Callable[[int, int], None]
"""Is told now and then how many files of how many have been fetched."""

_AT_ONCE = 16
_BATCH = 1024
_TRIES = 4
_ROUNDS = 4
_PAUSE_S = 0.5
_POLL_S = 0.1
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


class Mirror:
    """The copy of one store below a folder for caches, shared by all processes of a node.

    Each file is complete or absent. A file is fetched again when its size or its time of modification differ. Only one
    process fetches at a time; a lock goes with the process that holds it. While somebody reads, nothing that is there
    is changed or removed.
    """

    def __init__(self, store: Store, cache: Path) -> None:
        self._store = store
        self._place = cache.absolute() / "images" / digest_of(store.uri)
        self._parts = self._place / "parts"
        self.folder = self._place / "files" / folder_name(store.uri)
        """Where the files are; it bears the name of the store's own folder."""

    @contextmanager
    def whole(self, show: Show | None = None) -> Generator[dict[str, StoredFile]]:
        """Within, the folder holds what the store holds, no more and no less.

        Raises StorageError where there is nothing, no access or no room, where a file cannot be fetched or another job
        still reads one that is to be changed.
        """
        with self._settled() as change:
            stored = self._listed()
            here = self._here(change)
            self._remove(here.keys() - stored.keys(), change)
            changed = {path: file for path, file in stored.items() if here.get(path) != file}
            for _ in range(_ROUNDS):
                self._fetch(changed, {}, change, show)
                before, stored = stored, self._listed() if changed else stored
                # What changed while it was fetched may be half of either.
                self._remove(before.keys() - stored.keys(), change)
                changed = {path: file for path, file in stored.items() if before.get(path) != file}
                if not changed:
                    break
            else:
                raise StorageError(
                    f"{self._store.uri} changes while it is fetched, such as {min(changed)!r}; start again when all is "
                    "written"
                )
            change.end()
            yield stored

    @contextmanager
    def holding(self, wanted: Mapping[str, Wanted], show: Show | None = None) -> Generator[None]:
        """Within, the folder holds these files, as another node has them; the store is not listed.

        Raises as `whole` does, and StorageError where a file has changed in the store since.
        """
        self._refuse_odd_names(wanted)
        with self._settled() as change:
            absent = {path: file for path, file in wanted.items() if not self._is_here(path, file)}
            files = {path: StoredFile(file.size, file.mtime_ns) for path, file in absent.items()}
            self._fetch(files, absent, change, show)
            change.end()
            yield

    def _at(self, path: str) -> Path:
        return self.folder / path

    def _listed(self) -> dict[str, StoredFile]:
        stored = self._store.files()
        if not stored:
            raise StorageError(f"{self._store.uri} holds no files; check bucket and folder")
        self._refuse_odd_names(stored)
        return stored

    def _remove(self, gone: AbstractSet[str], change: "_Change") -> None:
        if gone:
            change.begin()
        with self._explained(""):
            for path in gone:
                self._at(path).unlink(missing_ok=True)
            _remove_empty_folders(self.folder)

    def _is_here(self, path: str, file: Wanted) -> bool:
        try:
            status = self._at(path).lstat()
        except OSError:
            return False
        # One nanosecond more marks a young file, see `_mtime_ns`.
        same = status.st_size == file.size and abs(status.st_mtime_ns - file.mtime_ns) <= 1
        return same and stat.S_ISREG(status.st_mode)

    def _here(self, change: "_Change") -> dict[str, StoredFile]:
        """What is there; what is neither folder nor file has no business here, and goes."""
        found: dict[str, StoredFile] = {}
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            with os.scandir(self.folder / folder) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(path)
                    elif stat.S_ISREG(status.st_mode):
                        found[path] = StoredFile(status.st_size, status.st_mtime_ns)
                    else:
                        change.begin()
                        self._at(path).unlink()
        return found

    @contextmanager
    def _settled(self) -> Generator["_Change"]:
        """The only process at work; from `end` on one of those that read, until the end."""
        with ExitStack() as locks:
            with self._explained(""):
                self.folder.mkdir(parents=True, exist_ok=True)
                readers = os.open(self._place / "readers", os.O_RDWR | os.O_CREAT, 0o600)
                locks.callback(os.close, readers)
                fetching = os.open(self._place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
                locks.callback(os.close, fetching)
                while not _locked(fetching, fcntl.LOCK_EX):
                    time.sleep(_POLL_S)
                shutil.rmtree(self._parts, ignore_errors=True)  # a killed process's
                self._parts.mkdir(exist_ok=True)
            yield _Change(self._store.uri, readers, fetching)

    def _refuse_odd_names(self, paths: Mapping[str, object]) -> None:
        """No path leads outside, and none is a file and a folder."""
        folders: set[str] = set()
        for path in paths:
            parts = path.split("/")
            if not {"", ".", ".."}.isdisjoint(parts) or "\0" in path or len(os.fsencode(path)) > 3000 or _long(parts):
                raise StorageError(
                    f"{self._store.uri} holds {path[:200]!r}, which is no name for a file below a folder; rename it"
                )
            folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if both := sorted(folders.intersection(paths)):
            raise StorageError(
                f"{self._store.uri} holds {both[0]!r} and files below {both[0]!r}/, which a folder cannot hold; "
                "rename one of them"
            )

    def _refuse_too_much(self, files: Mapping[str, StoredFile]) -> None:
        with self._explained(""):
            room = os.statvfs(self._place)
        needed, free = sum(file.size for file in files.values()), room.f_bavail * room.f_frsize
        remedy = "free space, or name a folder on another disk with --data.cache_dir"
        if needed > free:
            raise StorageError(
                f"{self._store.uri}: {len(files)} files of {needed / 1e6:.1f} MB are to be fetched to "
                f"{self._place}, where {free / 1e6:.1f} MB are free; {remedy}"
            )
        if room.f_files and len(files) > room.f_favail:
            raise StorageError(
                f"{self._store.uri}: {len(files)} files are to be fetched to {self._place}, where there can be "
                f"{room.f_favail} more (inodes); {remedy}"
            )

    def _fetch(
        self,
        files: Mapping[str, StoredFile],
        wanted: Mapping[str, Wanted],
        change: "_Change",
        show: Show | None,
    ) -> None:
        """Several at a time. What is not as `wanted` says is refused."""
        self._refuse_too_much(files)
        names, done = sorted(files), 0

        def fetch(path: str) -> None:
            self._fetch_one(path, files[path], wanted.get(path), change)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                for first in range(0, len(names), _BATCH):
                    batch = names[first : first + _BATCH]
                    for _ in pool.map(fetch, batch):
                        done += 1
                        if show is not None:
                            show(done, len(names))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _fetch_one(self, path: str, file: StoredFile, wanted: Wanted | None, change: "_Change") -> None:
        part, began_ns = self._parts / secrets.token_hex(8), 0
        try:
            for turn in range(1, _TRIES + 1):
                began_ns = time.time_ns()
                problem = self._downloaded(path, file, wanted, part)
                if problem is None:
                    break
                now = self._store.file(path)
                certain = "it is gone" if now is None else ""
                if now is not None and wanted is not None and (problem == _CHANGED or now.size != wanted.size):
                    certain = f"{_CHANGED} it was indexed"
                if certain or turn == _TRIES:
                    raise StorageError(
                        f"{self._store.place(path)} could not be fetched: {certain or problem}; start again"
                    )
                file = file if wanted is not None or now is None else now
                time.sleep(_PAUSE_S * 2 ** (turn - 1))
            mtime_ns = file.mtime_ns if wanted is not None else _mtime_ns(file, began_ns)
            with self._explained(path):
                os.utime(part, ns=(mtime_ns, mtime_ns))
                self._put(part, path, change)
        finally:
            part.unlink(missing_ok=True)

    def _downloaded(self, path: str, file: StoredFile, wanted: Wanted | None, part: Path) -> str | None:
        """Write the file's bytes to `part`; None, or why another try may do better."""
        digest, came = hashlib.blake2b(digest_size=16), 0
        with self._explained(path):
            target = part.open("wb")
        try:
            with target, self._store.reading(path) as stream:
                while data := stream.read(min(file.size - came, _MOST_AT_ONCE) + 1):
                    came += len(data)
                    digest.update(data)
                    if came > file.size:
                        break
                    with self._explained(path):
                        target.write(data)
                        target.flush()
        except FileNotFoundError:
            return "it is gone"
        except (OSError, pyarrow.ArrowException) as error:
            return why(error, None, "--data.root")
        if came != file.size:
            return f"{'more than ' * (came > file.size)}{min(came, file.size)} bytes of {file.size} came"
        if wanted is not None and digest.hexdigest() != wanted.content:
            return _CHANGED
        return None

    def _put(self, part: Path, path: str, change: "_Change") -> None:
        target = self._at(path)
        folder = self.folder
        for name in PurePosixPath(path).parent.parts:
            folder /= name
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                change.begin()
                folder.unlink(missing_ok=True)
            folder.mkdir(exist_ok=True)
        if target.is_symlink() or target.exists():
            if target.is_file() and not target.is_symlink() and filecmp.cmp(part, target, shallow=False):
                shutil.copystat(part, target)
                return
            change.begin()
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
        part.replace(target)

    @contextmanager
    def _explained(self, path: str) -> Generator[None]:
        try:
            yield
        except OSError as error:
            where = self._at(path) if path else self._place
            if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
                reason = f"this file system has no locks ({error.strerror}); name a folder of a local disk"
            else:
                reason = why(error, self._place, "folder")
            raise StorageError(f"{where} could not be written: {reason} (--data.cache_dir)") from error


class _Change:
    """Whether what is there may be changed: as long as no other process reads it."""

    def __init__(self, uri: str, readers: int, fetching: int) -> None:
        self._uri = uri
        self._readers = readers
        self._fetching = fetching
        self._alone = False
        self._turn = threading.Lock()

    def begin(self) -> None:
        """From here on nobody reads, until `end`."""
        with self._turn:
            if not self._alone and not _locked(self._readers, fcntl.LOCK_EX):
                raise StorageError(
                    f"the files of {self._uri} have changed, and another job on this node still reads them as they "
                    "were; wait until it has ended, or fetch them to another folder with --data.cache_dir"
                )
            self._alone = True

    def end(self) -> None:
        """All is as it should be: read it, and let others fetch."""
        fcntl.flock(self._readers, fcntl.LOCK_SH)
        fcntl.flock(self._fetching, fcntl.LOCK_UN)


def digest_of(uri: str) -> str:
    """A name for what is kept of a URI."""
    return hashlib.blake2b(uri.encode(), digest_size=8).hexdigest()


def folder_name(uri: str) -> str:
    """The last part of a URI's path, as the name of a folder."""
    last = PurePosixPath(uri.partition("?")[0]).name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip(".-")[:100] or "data"


def _mtime_ns(file: StoredFile, began_ns: int) -> int:
    """The store's own; of a young file one more, so that it counts as changed the next time and is fetched again."""
    return file.mtime_ns + int(file.mtime_ns > began_ns - _YOUNG_NS)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _long(parts: list[str]) -> bool:
    return any(len(os.fsencode(part)) > 255 for part in parts)


def _remove_empty_folders(folder: Path) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        if path != str(folder) and not os.listdir(path):  # noqa: PTH208
            os.rmdir(path)  # noqa: PTH106
