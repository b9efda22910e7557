"""Progress while images are fetched, or read for the first time: a live bar on a terminal, plain lines elsewhere."""

from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ray_jobs.terminal.console import progress_console

_SHORT_S = 1.0
"""A scan that ends within this shows nothing."""
_LINE_EVERY_S = 10.0


class ScanView:
    """A context manager around a scan; `show` is called by it now and then."""

    def __init__(self, console: Console | None = None, doing: str = "checking images") -> None:
        self._console = console or progress_console()
        self._doing = doing
        self._bar = Progress(
            TextColumn(doing),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)
        self._began = monotonic()
        self._shown_at: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, done: int, images: int) -> None:
        """`done` of `images` are done."""
        now = monotonic()
        if now - self._began < _SHORT_S or done == images:
            return
        if not self._console.is_terminal:
            if self._shown_at is None or now - self._shown_at >= _LINE_EVERY_S:
                self._shown_at = now
                self._console.print(f"{self._doing}: {done} of {images}", soft_wrap=True)
            return
        self._bar.start()
        self._bar.update(self._task, total=images, completed=done)
