"""Shows a search: a live table of trials on a terminal; elsewhere a line for each trial that ends."""

from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ray_jobs.search.config import SearchConfig
from ray_jobs.search.records import TrialRecord
from ray_jobs.search.results import ranked
from ray_jobs.terminal.console import progress_console

_ENDED_SHOWN = 8
_EVERY_S = 0.5
_STYLES = {"finished": "green", "stopped": "cyan", "diverged": "yellow", "failed": "bold red", "running": ""}


class LiveTable:
    """A context manager around the search."""

    def __init__(self, config: SearchConfig, epochs: int, console: Console | None = None) -> None:
        self._config = config
        self._epochs = epochs
        self._console = console or progress_console()
        self._live = Live(console=self._console, transient=True, auto_refresh=False) if self._terminal else None
        self._shown_at = 0.0

    @property
    def _terminal(self) -> bool:
        return self._console.is_terminal

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        """A line above the table."""
        self._console.print(text, markup=False, emoji=False, soft_wrap=True)

    def ended(self, record: TrialRecord, records: Sequence[TrialRecord]) -> None:
        """Print a trial that is over, or unfinished at the end of the search."""
        best = ranked(self._config, records)[:1]
        mark = "  best so far" if best and best[0].digest == record.digest else ""
        self.say(f"{one_line(record, self._config, self._epochs)}{mark}")

    def refresh(self, records: Sequence[TrialRecord], *, now: bool = False) -> None:
        """Redraw the table, at most twice a second."""
        if self._live is None or (not now and monotonic() - self._shown_at < _EVERY_S):
            return
        self._shown_at = monotonic()
        self._live.update(self._table(records), refresh=True)

    def _table(self, records: Sequence[TrialRecord]) -> Group:
        running = [record for record in records if not record.is_over]
        ended = [record for record in records if record.is_over]
        best = ranked(self._config, records)[:1]
        heading = Text(f"{len(ended)} of {self._config.trials} trials over, {len(running)} running")
        if best:
            heading.append(f"; best {self._config.objectives[0]} {best[0].values[0]:.4f} (trial {best[0].number})")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("trial", "state", "epoch", *self._config.objectives, "parameters"):
            table.add_column(column, justify="left" if column in {"state", "parameters"} else "right", overflow="fold")
        for record in [*ended[-_ENDED_SHOWN:], *running]:
            values = [f"{value:.4g}" if value is not None else "" for value in record.values]
            values += [""] * (len(self._config.objectives) - len(values))
            table.add_row(
                str(record.number),
                Text(record.standing, style=_STYLES[record.state]),
                f"{len(record.history)}/{self._epochs}",
                *values,
                Text(short_params(record)),
            )
        return Group(heading, table)


def one_line(record: TrialRecord, config: SearchConfig, epochs: int) -> str:
    """A trial in a line."""
    named = zip(config.objectives, record.values, strict=False)
    values = [f"{name} {value:.4f}" for name, value in named if value is not None]
    what = record.error.splitlines()[0][:200] if record.error else "  ".join(values)
    name = "default" if record.is_default else short_params(record)
    return f"trial {record.number}  {record.standing} after {len(record.history)}/{epochs} epochs  {what}  ({name})"


def short_params(record: TrialRecord) -> str:
    """Parameters by the last part of their names."""
    return ", ".join(
        f"{field.rpartition('.')[2]}={f'{value:.3g}' if isinstance(value, float) else value}"
        for field, value in record.params.items()
    )
