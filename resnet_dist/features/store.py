"""Tensors that processes of one machine share through files, each complete or absent.

    <folder>/ledger                     bytes of all files; its lock is held for a change of more than one file
    <folder>/scopes/<digest>/<entry>    one tensor
    <folder>/scopes/<digest>/<entry>.claim   who is computing it
    <folder>/scopes/<digest>/in-use     locked by every process that uses the scope
    <folder>/writing/<owner>...         what is not complete yet

Whoever reads walks the same sequence again and again, so dropping the oldest entries would drop each one just before
it is wanted: what is there stays, and only whole scopes that no process uses make room for others.
"""

import fcntl
import mmap
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

import torch

from resnet_dist.errors import RunError
from resnet_dist.features.entry import pack, unpack
from resnet_dist.features.ledger import Ledger, locked
from resnet_dist.features.owner import current_owner, has_ended

_IN_USE = "in-use"
_CLAIM = ".claim"
_POLL_S = 0.002


class NoRoomError(Exception):
    """The limit is reached, and all that is stored is in use."""


class FeatureStore:
    """A folder of at most `limit_bytes`, for any number of threads and processes on this machine.

    Raises RunError for a folder that belongs to another user, OSError where there can be none.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        _make_private(folder)
        self._ledger = folder / "ledger"
        self._scopes = folder / "scopes"
        self._writing = folder / "writing"
        self._scopes.mkdir(mode=0o700, exist_ok=True)
        self._writing.mkdir(mode=0o700, exist_ok=True)
        with self._locked() as ledger:
            ledger.total = self._recount()

    @property
    def stored_bytes(self) -> int:
        """What all files have together, of all scopes."""
        with self._locked() as ledger:
            return ledger.total

    def scope(self, digest: str) -> "Scope":
        """The entries under a digest, in use until closed."""
        place = self._scopes / digest
        with self._locked():
            place.mkdir(mode=0o700, exist_ok=True)
            in_use = os.open(place / _IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(in_use, fcntl.LOCK_SH)
            os.utime(in_use)
        return Scope(self, place, in_use)

    def publish(self, target: Path, header: bytes, body: memoryview) -> int:
        """Create or replace a file at once; its size in bytes. Raises NoRoomError, or OSError for a full disk."""
        size = len(header) + len(body)
        with self._locked() as ledger:
            self._make_room(ledger, size)
            descriptor, path = tempfile.mkstemp(prefix=f"{current_owner()}.", dir=self._writing)
            unfinished = Path(path)
            # From here on it has its final size, so whoever counts the files counts it.
            os.ftruncate(descriptor, size)
            ledger.total += size
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(header)
                file.write(body)
            with self._locked() as ledger:
                replaced = _size(target)
                unfinished.replace(target)
                ledger.total -= replaced
        except BaseException:
            with self._locked() as ledger:
                if unfinished.exists():
                    unfinished.unlink()
                    ledger.total -= size
            raise
        return size

    def take_over(self, claim: Path, dead: str) -> bool:
        """Whether a dead owner's claim could be removed; another may have been faster."""
        with self._locked():
            if _owner_of(claim) != dead:
                return False
            claim.unlink()
            return True

    def _locked(self) -> AbstractContextManager[Ledger]:
        return locked(self._ledger)

    def _make_room(self, ledger: Ledger, size: int) -> None:
        if ledger.total + size <= self.limit_bytes:
            return
        total = self._recount()
        if size <= self.limit_bytes:
            for place in self._unused():
                if total + size <= self.limit_bytes:
                    break
                shutil.rmtree(place)
                total = self._recount()
        ledger.total = total
        if total + size > self.limit_bytes:
            raise NoRoomError(
                f"{total:,} of {self.limit_bytes:,} bytes are in use, and {size:,} more do not fit; raise the limit"
            )

    def _unused(self) -> Iterator[Path]:
        """Scopes that no process uses, the one used longest ago first."""
        in_use = [place / _IN_USE for place in self._scopes.iterdir()]
        for path in sorted(in_use, key=lambda path: path.stat().st_mtime_ns if path.exists() else 0):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)
            yield path.parent

    def _recount(self) -> int:
        """Bytes of all files, those of dead writers removed."""
        for path in self._writing.iterdir():
            if has_ended(path.name.rpartition(".")[0]):
                path.unlink(missing_ok=True)
        return sum(_size(path) for path in (*self._writing.iterdir(), *self._scopes.glob("*/*")))


class Scope:
    """The entries under one digest; a context manager. Names are of letters, digits and "-"."""

    def __init__(self, store: FeatureStore, place: Path, in_use: int) -> None:
        self._store = store
        self._place = place
        self._in_use: int | None = in_use

    def get(self, name: str) -> torch.Tensor | None:
        """The tensor as it was put, in memory of its own; None where there is none, or a damaged one."""
        try:
            with (self._place / name).open("rb") as file:
                # Copy on write, because torch warns of memory that it may not write to. Unmapped by its last view.
                return unpack(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)))
        except (OSError, ValueError):
            return None

    def get_or_claim(self, name: str, patience_s: float) -> "torch.Tensor | Claim | None":
        """The tensor, or the claim to compute it. None: its owner, who lives, has not got it done in `patience_s`."""
        deadline = monotonic() + patience_s
        while True:
            claim = self.claim(name)
            # After the claim: its last owner may have been done in between.
            found = self.get(name)
            if found is not None:
                if claim is not None:
                    claim.release()
                return found
            if claim is not None:
                return claim
            if monotonic() >= deadline:
                return None
            sleep(_POLL_S)

    def claim(self, name: str) -> "Claim | None":
        """The right to put an entry; None where a living process has it."""
        path = self._place / f"{name}{_CLAIM}"
        while True:
            try:
                # A link is made with what it says, or not at all: nobody sees a claim that has no owner yet.
                path.symlink_to(current_owner())
            except FileExistsError:
                owner = _owner_of(path)
                if owner is None:
                    continue
                if not has_ended(owner):
                    return None
                self._store.take_over(path, owner)
            else:
                return Claim(self, name, path)

    def put(self, name: str, tensor: torch.Tensor, kept: torch.dtype) -> int:
        """Store a tensor of the CPU, its numbers rounded to `kept`; bytes of the file.

        Raises NoRoomError at the limit, OSError for a full disk; then what was there before is as it was.
        """
        header, body = pack(tensor, kept)
        return self._store.publish(self._place / name, header, body)

    def close(self) -> None:
        """No longer in use by this one; its entries may make room for others'."""
        if self._in_use is not None:
            with suppress(OSError):
                os.utime(self._in_use)
            os.close(self._in_use)
        self._in_use = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Claim:
    """The right to put an entry; a context manager that gives it back, whether or not it was put."""

    def __init__(self, scope: Scope, name: str, path: Path) -> None:
        self._scope = scope
        self._name = name
        self._path = path

    def put(self, tensor: torch.Tensor, kept: torch.dtype) -> int:
        """As `Scope.put`."""
        return self._scope.put(self._name, tensor, kept)

    def release(self) -> None:
        """Leave it to others."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _owner_of(claim: Path) -> str | None:
    """None where there is no claim; of what is no link, nobody."""
    try:
        return str(claim.readlink())
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _size(path: Path) -> int:
    """Bytes of a file; links, as claims are, count for nothing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Of a link, its own: someone else could point it elsewhere.
    owner = folder.lstat().st_uid
    if owner != os.geteuid():
        raise RunError(
            f"{folder} belongs to user {owner} and this is user {os.geteuid()}: features of another user cannot be "
            "trusted; name a folder of your own"
        )
    folder.chmod(0o700)
