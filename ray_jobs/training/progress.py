"""Shows a run while it trains: a live line on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from cluster.errors import StorageError
from ray_jobs.data.prepare import PreparedData
from ray_jobs.job.config import JobConfig
from ray_jobs.run.directory import RunDirectory
from ray_jobs.terminal.console import progress_console
from ray_jobs.terminal.counted import counted
from resnet_dist.errors import RunError
from resnet_dist.model.config import freezing_phases
from resnet_dist.model.freezing import expected_speed_up, stage_sizes
from resnet_dist.model.resnet import build_model
from resnet_dist.run_records import Record, Status

_LEAST_BAR, _MOST_BAR = 10, 40
"""Columns of the bar; in between it has a quarter of the terminal, and the numbers have the rest."""
_UNBOUNDED = 1000
"""Columns where nobody's terminal ends a line: a file has all numbers."""


class ProgressView:
    """A context manager for the live line; each `refresh` reads what the run has recorded."""

    def __init__(self, run: RunDirectory, data: PreparedData, console: Console | None = None) -> None:
        self._run = run
        self._console = console or progress_console()
        counts = ", ".join(f"{count} {name}" for name, count in data.counts.items())
        self._heading = f"{run.uri}: {len(data.dataset.samples.classes)} classes, {counts} images"
        if data.dataset.unreadable:
            self._heading += f", {len(data.dataset.unreadable)} unreadable files left out (see dataset.json)"
        self._columns = self._console.width if self._console.is_terminal else _UNBOUNDED
        self._bar_width = max(_LEAST_BAR, min(_MOST_BAR, self._console.width // 4))
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=self._bar_width),
            TextColumn("{task.fields[numbers]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting workers", total=None, numbers="")
        self._shown_step = -1
        self._messages_shown: dict[int, int] = {}
        self._warned: set[str] = set()
        self._tracker_shown = ""

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

    def warn(self, lines: Sequence[str]) -> None:
        """Print lines that the log will have, too, and that are not to be printed again from there."""
        self._warned.update(lines)
        for line in lines:
            self.say(line)

    def show_start(self, workers: int) -> None:
        """The line before all that comes from workers."""
        self.say(f"starting {counted(workers, 'worker')}, which takes some seconds")

    def show_stages(self, job: JobConfig, classes: int) -> None:
        """The table of stages: what is trained, from which epoch on, and what freezing saves."""
        model = build_model(job.model.structure, classes, job.model.dropout, job.seed)
        for first, policies in freezing_phases(job.freezing):
            if first >= job.training.epochs:
                break
            rows = stage_sizes(model, policies)
            speed_up = expected_speed_up(model, policies, *job.data.input_size)
            total, trained = sum(row.parameters for row in rows), sum(row.trainable for row in rows)
            self.say(
                f"from epoch {first + 1} on: {trained:,} of {total:,} parameters are trained, by operations "
                f"{speed_up:.2f}x as fast as training all"
            )
            for row in rows:
                self.say(
                    f"  {row.stage:7} {row.policy:10} {row.parameters:>12,} parameters {row.trainable:>12,} trained"
                )

    def refresh(self) -> None:
        """Show what the run has recorded since the last call."""
        status = self._run.read_status()
        if status is None or status.state != "running":
            return
        self._show_messages(status)
        if status.tracker and status.tracker != self._tracker_shown:
            self._tracker_shown = status.tracker
            self.say(f"tracker: {status.tracker}")
        description = f"epoch {min(status.epoch + 1, status.epochs)}/{status.epochs}"
        # A column lies free between two parts, and one at the end.
        room = self._columns - len(description) - self._bar_width - 3
        self._bar.update(
            self._task,
            description=description,
            completed=status.step,
            total=status.epochs * status.steps_per_epoch or None,
            numbers=_live_numbers(status, room),
        )
        if status.epoch and status.step > self._shown_step:
            self._show_epochs()

    def _show_messages(self, status: Status) -> None:
        """Print the new lines of the generation's log, which is only read when the status says that there are any."""
        shown = self._messages_shown.get(status.generation, 0)
        path = f"logs/generation-{status.generation:06d}.log"
        if status.messages <= shown:
            return
        try:
            log = self._run.store.read_or_none(path)
        except StorageError:
            return  # away just now; a later refresh sees it
        if log is None:
            return
        lines = log.decode().splitlines()
        for line in lines[shown:]:
            if line not in self._warned:
                self.say(line)
        self._messages_shown[status.generation] = len(lines)

    def _show_epochs(self) -> None:
        try:
            records = self._run.metrics()
        except (RunError, StorageError):
            return  # being replaced just now; the next refresh sees it
        training: Record = {}
        for record in records:
            if "train/loss" in record:
                training = record
            elif record["step"] > self._shown_step:
                self.say(_epoch_line(record, training, self._columns))
                self._shown_step = int(record["step"])


def _live_numbers(status: Status, room: int) -> str:
    """As many of the numbers as `room` columns hold: what matters least is left out first."""
    loss = status.metrics.get("train/loss")
    parts = {"step": f"{status.step}/{status.epochs * status.steps_per_epoch}"}
    parts |= {"loss": f"loss {loss:.4g}"} if loss is not None else {}
    parts |= {"rate": f"lr {status.learning_rate:.3g}"} if status.learning_rate is not None else {}
    parts |= {"speed": _speed(status.images_per_second)} if status.images_per_second is not None else {}
    parts |= {"waiting": _waiting(status.data_wait_share)} if status.data_wait_share is not None else {}
    parts |= {"left": f"ETA {timedelta(seconds=round(status.eta_s))}"} if status.eta_s is not None else {}
    for name in ("rate", "waiting", "speed", "loss", "left"):
        if len("  ".join(parts.values())) > room:
            parts.pop(name, None)
    return "  ".join(parts.values())


def _epoch_line(record: Record, training: Record, columns: int) -> str:
    """An epoch's numbers, from the most important on as many as fit."""
    loss = f"val loss {record['val/loss']:.4g}"
    if training:
        loss = f"loss {training['train/loss']:.4g}, val {record['val/loss']:.4g}"
    parts = [f"epoch {record['epoch']:.0f}", loss]
    parts += [f"top-1 {record['val/top1']:.4f}", f"macro-F1 {record['val/macro_f1']:.4f}"]
    if training:
        parts += [
            _waiting(training["perf/data_wait_share"]),
            _speed(training["perf/images_per_second"]),
            f"lr {training['train/learning_rate']:.3g}",
        ]
    while len(parts) > 1 and len("  ".join(parts)) > columns:
        parts.pop()
    return "  ".join(parts)


def _waiting(share: float) -> str:
    return f"waiting for data {100 * share:.0f} %"


def _speed(images_per_second: float) -> str:
    return f"{images_per_second:.0f} images/s"
