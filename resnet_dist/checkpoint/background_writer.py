"""Writes to storage while training goes on, also while storage is away."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

Write = Callable[[], None]


class Retried(Protocol):
    """How an action that fails since storage is away is tried again."""

    def __call__(self, action: Write, given_up: threading.Event, /) -> None:
        """Run the action until it goes well; once `given_up` is set, at most once more.

        Raises the action's error where another try would meet it again, or storage is away for too long.
        """
        ...


def once(action: Write, given_up: threading.Event, /) -> None:  # noqa: ARG001 - as `Retried`
    """No second try."""
    action()


class BackgroundWriter:
    """Carries out writes in a thread of its own, one at a time; a context manager that ends when all are done.

    There is at most one write of a kind: a newer one takes the place of one that is not done yet. So while storage is
    away, the newest of each kind is all that waits. The first failure is raised by the next call but `put`, or at the
    end; what was stored before is intact.
    """

    def __init__(self, kinds: tuple[str, ...], retried: Retried = once) -> None:
        """`kinds`: in the order in which they are written where several wait."""
        self._kinds = kinds
        self._retried = retried
        self._changed = threading.Condition()
        self._due: dict[str, Write] = {}
        self._tries = 0
        self._failure: Exception | None = None
        self._given_up = threading.Event()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="background-writer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish what is due; after an error not if storage is away. The error is not hidden by one of writing."""
        if error is not None:
            self._given_up.set()
        try:
            self.drain()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"and what was to be stored could not be: {failure}")
        finally:
            with self._changed:
                self._is_ending = True
                self._changed.notify_all()
            self._thread.join()

    def put(self, kind: str, write: Write) -> None:
        """Have it written, instead of one of the same kind that is not done yet."""
        with self._changed:
            self._due[kind] = write
            self._changed.notify_all()

    def wait_for(self, kind: str) -> None:
        """Wait until none of this kind is due, or storage is away."""
        with self._changed:
            self._changed.wait_for(lambda: kind not in self._due or self._tries > 1 or self._failure is not None)
        self.raise_failure()

    def drain(self) -> None:
        """Wait until nothing is due, however long storage is away."""
        with self._changed:
            self._changed.wait_for(lambda: not self._due or self._failure is not None)
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise what went wrong since it was last raised, if anything did."""
        with self._changed:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._is_ending)
                self._tries = 0
                if not self._due:
                    return
            try:
                self._retried(self._carry_out, self._given_up)
            except Exception as error:  # handed on to the training thread, whatever it is
                with self._changed:
                    self._failure = error
                    self._due.clear()
                    self._changed.notify_all()

    def _carry_out(self) -> None:
        """Do what comes first now. Called again after an outage, when something newer may be due."""
        with self._changed:
            self._tries += 1
            self._changed.notify_all()
            kind = min(self._due, key=self._kinds.index)
            write = self._due[kind]
        write()
        with self._changed:
            if self._due.get(kind) is write:
                del self._due[kind]
            self._changed.notify_all()
