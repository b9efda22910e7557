"""A node's own copy of the files below a URI: training reads images many times, and decoders read folders."""

import filecmp
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Generator, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from cluster.errors import StorageError
from cluster.storage.download import Wanted, download, writing
from cluster.storage.folder_name import folder_name
from cluster.storage.reader_lock import ReaderLock
from cluster.storage.store import Store, StoredFile

Show = Callable[[int, int], None]
"""Called now and then with how many files of how many have been fetched."""

_AT_ONCE = 16
_BATCH = 1024
_ROUNDS = 4


class Mirror:
    """The copy of one store below a folder for caches, shared by all processes of a node.

    Each file is complete or absent. A file is fetched again when its size or its time of modification differ. Only one
    process fetches at a time, and its lock ends with it. While another process reads, nothing that is there is changed
    or removed.
    """

    def __init__(self, store: Store, cache: Path) -> None:
        self._store = store
        self._place = cache.absolute() / "images" / digest_of(store.uri)
        self._parts = self._place / "parts"
        self.folder = self._place / "files" / folder_name(store.uri)[:100]
        """Where the files are; it bears the name of the store's own folder."""

    @contextmanager
    def whole(self, show: Show | None = None) -> Generator[dict[str, StoredFile]]:
        """Within, the folder holds what the store holds, no more and no less.

        Raises StorageError where there is nothing, no access or no room, where a file cannot be fetched or another job
        still reads one that is to be changed.
        """
        with self._settled() as lock:
            stored = self._listed()
            here = self._here(lock)
            self._remove(here.keys() - stored.keys(), lock)
            changed = {path: file for path, file in stored.items() if here.get(path) != file}
            for _ in range(_ROUNDS):
                self._fetch(changed, {}, lock, show)
                before, stored = stored, self._listed() if changed else stored
                # What changed while it was fetched may be half of either.
                self._remove(before.keys() - stored.keys(), lock)
                changed = {path: file for path, file in stored.items() if before.get(path) != file}
                if not changed:
                    break
            else:
                raise StorageError(
                    f"{self._store.uri} changes while it is fetched, such as {min(changed)!r}; start again when all is "
                    "written"
                )
            lock.share()
            yield stored

    @contextmanager
    def holding(self, wanted: Mapping[str, Wanted], show: Show | None = None) -> Generator[None]:
        """Within, the folder holds these files, as another node has them; the store is not listed.

        Raises as `whole` does, and StorageError where a file has changed in the store since.
        """
        self._refuse_odd_names(wanted)
        with self._settled() as lock:
            absent = {path: file for path, file in wanted.items() if not self._is_here(path, file)}
            files = {path: StoredFile(file.size, file.mtime_ns) for path, file in absent.items()}
            self._fetch(files, absent, lock, show)
            lock.share()
            yield

    def _at(self, path: str) -> Path:
        return self.folder / path

    def _listed(self) -> dict[str, StoredFile]:
        stored = self._store.files()
        if not stored:
            raise StorageError(f"{self._store.uri} holds no files; check bucket and folder")
        self._refuse_odd_names(stored)
        return stored

    def _remove(self, gone: AbstractSet[str], lock: ReaderLock) -> None:
        if gone:
            lock.exclude_readers()
        with writing(self._place):
            for path in gone:
                self._at(path).unlink(missing_ok=True)
            _remove_empty_folders(self.folder)

    def _is_here(self, path: str, file: Wanted) -> bool:
        try:
            status = self._at(path).lstat()
        except OSError:
            return False
        # One nanosecond more marks a young file, see `download`.
        same = status.st_size == file.size and abs(status.st_mtime_ns - file.mtime_ns) <= 1
        return same and stat.S_ISREG(status.st_mode)

    def _here(self, lock: ReaderLock) -> dict[str, StoredFile]:
        """The files that are there; what is neither folder nor file is removed."""
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
                        lock.exclude_readers()
                        self._at(path).unlink()
        return found

    @contextmanager
    def _settled(self) -> Generator[ReaderLock]:
        """The only process that changes the folder; from `share` on one of those that read it, until the end."""
        with ExitStack() as stack:
            with writing(self._place):
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(ReaderLock.taken(self._place, self._store.uri))
                shutil.rmtree(self._parts, ignore_errors=True)  # a killed process's
                self._parts.mkdir(exist_ok=True)
            yield lock

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
        with writing(self._place):
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
        lock: ReaderLock,
        show: Show | None,
    ) -> None:
        """Fetch several at a time. A file that differs from `wanted` is refused."""
        self._refuse_too_much(files)
        names, done = sorted(files), 0

        def fetch(path: str) -> None:
            part = self._parts / secrets.token_hex(8)
            try:
                download(self._store, path, files[path], wanted.get(path), part, self._at(path))
                with writing(self._at(path)):
                    self._put(part, path, lock)
            finally:
                part.unlink(missing_ok=True)

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

    def _put(self, part: Path, path: str, lock: ReaderLock) -> None:
        target = self._at(path)
        folder = self.folder
        for name in PurePosixPath(path).parent.parts:
            folder /= name
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                lock.exclude_readers()
                folder.unlink(missing_ok=True)
            folder.mkdir(exist_ok=True)
        if target.is_symlink() or target.exists():
            if target.is_file() and not target.is_symlink() and filecmp.cmp(part, target, shallow=False):
                shutil.copystat(part, target)
                return
            lock.exclude_readers()
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
        part.replace(target)


def digest_of(uri: str) -> str:
    """The name of the folder that keeps files of a URI."""
    return hashlib.blake2b(uri.encode(), digest_size=8).hexdigest()


def _long(parts: list[str]) -> bool:
    return any(len(os.fsencode(part)) > 255 for part in parts)


def _remove_empty_folders(folder: Path) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        if path != str(folder) and not os.listdir(path):  # noqa: PTH208
            os.rmdir(path)  # noqa: PTH106
