"""Stores checkpoints while training goes on."""

import threading
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.store import CheckpointStore, Claim
from resnet_dist.checkpoint.writing import prune, write_checkpoint


class CheckpointWriter:
    """Stores snapshots while training goes on, one at a time; a context manager that ends when all is stored.

    The first failure is raised by the next `submit`, by `drain` or at the end; checkpoints stored before are intact.
    `believed` is the lease's history, `claim` included.
    """

    def __init__(
        self,
        store: CheckpointStore,
        claim: Claim,
        believed: Collection[Claim],
        confirm: Callable[[], None],
        keep_last: int,
        monitor: str,
    ) -> None:
        self._store = store
        self._claim = claim
        self._believed = believed
        self._confirm = confirm
        self._keep_last = keep_last
        self._monitor = monitor
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.drain()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"and a checkpoint could not be stored: {failure}")

    def submit(self, snapshot: Snapshot) -> None:
        """Start storing a snapshot, once the one before it is stored."""
        self.drain()
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint-writer")
        self._thread.start()

    def drain(self) -> None:
        """Wait until everything submitted is stored."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _write(self, snapshot: Snapshot) -> None:
        try:
            write_checkpoint(self._store, snapshot, self._claim, self._confirm)
            # One that still owes its validation is replaced by one of the same step: while that is being written,
            # those before it are all there is.
            if not snapshot.progress.validation_owed:
                self._confirm()
                prune(self._store, self._believed, snapshot.step, self._keep_last, self._monitor)
        except Exception as error:  # handed on to the training thread, whatever it is
            self._failure = error
