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


def table_of(*columns: str, whole_names: bool = False) -> Table:
    """A plain table: the first column and those of `_TEXTS` hold text, others numbers.

    `whole_names`: the names in the first column are not broken over lines, and the columns stand closer together.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=whole_names)
    for number, column in enumerate(columns):
        is_text = number == 0 or column in _TEXTS
        is_whole = whole_names and number == 0
        table.add_column(column, justify="left" if is_text else "right", overflow="fold", no_wrap=is_whole)
    return table
