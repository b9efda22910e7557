"""Where commands print: lines as they are, and tables that read the same on a terminal and in a file."""

from rich import box
from rich.console import Console
from rich.table import Table

from ray_jobs.terminal.watcher import is_watched

_TEXTS = {"", "best", "found", "nodes", "parameters", "remark", "state", "type", "updated", "values", "verdict", "when"}
"""Columns that hold text; all others but the first hold numbers."""


def show_line(text: str) -> None:
    """One line, as it is."""
    console().print(text, markup=False, soft_wrap=True)


def console() -> Console:
    """Where commands print."""
    return Console(highlight=False)


def progress_console() -> Console:
    """Where long work shows its progress: as `console` where a person watches, else nowhere."""
    return Console(highlight=False, quiet=not is_watched())


def table_of(*columns: str) -> Table:
    """A plain table: the first column and those of `_TEXTS` hold text, others numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        is_text = number == 0 or column in _TEXTS
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    return table
