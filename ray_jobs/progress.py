"""What a person sees of a run while it trains: a live line on a terminal, plain lines elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.errors import StorageError
from cluster.lease import read_history
from ray_jobs.prepared_data import PreparedData
from ray_jobs.run_directory import RunDirectory
from resnet_dist.errors import RunError
from resnet_dist.run_records import Record, read_metrics


class ProgressView:
    """Reads what the run records; a context manager for the live line. `refresh` is called now and then."""

    def __init__(self, run: RunDirectory, data: PreparedData) -> None:
        self._run = run
        self._console = Console(stderr=False, highlight=False)
        counts = ", ".join(f"{count} {name}" for name, count in data.counts.items())
        self._heading = f"{run.uri}: {len(data.dataset.samples.classes)} classes, {counts} images"
        if data.dataset.unreadable:
            self._heading += f", {len(data.dataset.unreadable)} unreadable files left out (see dataset.json)"
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} steps"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting workers", total=None)
        self._shown_step = -1
        self._messages_shown: set[int] = set()

    def __enter__(self) -> Self:
        self._bar.start()
        self.say(self._heading)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.refresh()
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line above the live one."""
        self._console.print(text, markup=False, soft_wrap=True)

    def refresh(self) -> None:
        """Show what the run has recorded since the last call."""
        status = self._run.read_status()
        if status is None or status.state != "running":
            return
        self._show_messages(status.generation)
        loss = status.metrics.get("train/loss")
        speed = status.images_per_second
        parts = [f"epoch {min(status.epoch + 1, status.epochs)}/{status.epochs}"]
        parts += [f"loss {loss:.3f}"] if loss is not None else []
        parts += [f"{speed:.0f} img/s"] if speed is not None else []
        total = status.epochs * status.steps_per_epoch
        self._bar.update(self._task, description=" ".join(parts), completed=status.step, total=total or None)
        if status.epoch and status.step > self._shown_step:
            self._show_epochs()

    def _show_messages(self, generation: int) -> None:
        path = f"logs/generation-{generation:06d}.log"
        if generation in self._messages_shown or not self._run.store.exists(path):
            return
        self._messages_shown.add(generation)
        for line in self._run.store.read(path).decode().splitlines():
            self.say(line)

    def _show_epochs(self) -> None:
        try:
            records = read_metrics(self._run.store, read_history(self._run.store))
        except (RunError, StorageError):
            return  # being replaced just now; the next refresh sees it
        training: Record = {}
        for record in records:
            if "train/loss" in record:
                training = record
            elif record["step"] > self._shown_step:
                self.say(_epoch_line(record, training))
                self._shown_step = int(record["step"])


def _epoch_line(record: Record, training: Record) -> str:
    parts = [f"epoch {record['epoch']:.0f}"]
    parts += [f"train loss {training['train/loss']:.4f}"] if training else []
    parts += [
        f"val {label} {record[key]:.4f}"
        for key, label in (("val/loss", "loss"), ("val/top1", "top-1"), ("val/macro_f1", "macro-F1"))
    ]
    parts += [f"{training['perf/images_per_second']:.0f} img/s"] if training else []
    return "  ".join(parts)
