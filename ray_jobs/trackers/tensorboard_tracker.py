"""TensorBoard: event files in the run directory."""

import os
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import Any

from ray_jobs.trackers.tracker import ExitState, Plain, TrackedRun, optional_module


class TensorBoardTracker:
    """An event file for each start, or for each epoch where they are uploaded: a stored file never changes."""

    def __init__(self, run: TrackedRun) -> None:
        self._run = run
        self._tensorboardx: Any = None
        self._writer: Any = None
        self._purge_from = None if run.resumed_step is None else run.resumed_step + 1
        self.link = run.place

    def start(self) -> str | None:
        """Begin an event file; on resume it tells TensorBoard to forget what comes again."""
        self._tensorboardx = optional_module("tensorboardX", "train")
        self._run.folder.mkdir(parents=True, exist_ok=True)
        self.table("config", ("key", "value"), list(self._run.config.items()))
        return None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Scalars by metric key."""
        writer = self._open()
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Plain]]) -> None:
        """A Markdown table among the texts."""
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join("|" + "|".join(_cell(value) for value in line) + "|" for line in lines)
        self._open().add_text(name, text, self._run.resumed_step or 0)

    def epoch_done(self) -> None:
        """Flush, or upload what there is as a part of its own."""
        if self._run.upload is None:
            self._open().flush()
        else:
            self._close()

    def finish(self, state: ExitState) -> None:  # noqa: ARG002 - the protocol's
        """Close the last file; TensorBoard knows no exit state."""
        self._close()

    def _open(self) -> Any:
        if self._writer is None:
            # The library names a file by the second and the host; parts and restarts may share both.
            self._writer = self._tensorboardx.SummaryWriter(
                str(self._run.folder), purge_step=self._purge_from, filename_suffix=f".{os.getpid()}.{time_ns()}"
            )
            self._purge_from = None
        return self._writer

    def _close(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        if self._run.upload is not None:
            for path in sorted(self._run.folder.glob("events.out.tfevents.*")):
                self._run.upload(path.name, path.read_bytes())
                path.unlink()


def _cell(value: Plain) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
