"""What `runs` and `searches` print: tables, one run in lines, or JSON."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, cast

from rich.markup import escape
from rich.table import Table

from cluster.storage.store import child_uri
from ray_jobs.run.listing import Listing, RunRow, RunView
from ray_jobs.search.listing import SearchRow
from ray_jobs.terminal.console import console, show_line, table_of
from resnet_dist.checkpoint.progress import Best
from resnet_dist.plain_json import plain_number

_MOST_CLASSES = 20


def show_runs(found: Listing[RunRow]) -> None:
    """A row for each run, then what is wrong with some."""
    table = table_of("run", "state", "epochs", "best", "updated", whole_names=True)
    for row in found.rows:
        epochs = f"{row.epoch}/{row.epochs}" if row.epochs else f"{row.epoch or ''}"
        table.add_row(escape(row.name), row.state, epochs, _best(row.best), _time(row.updated))
    _show(found, table, "runs")


def show_searches(found: Listing[SearchRow]) -> None:
    """A row for each search, then what is wrong with some."""
    table = table_of("search", "state", "trials", "epochs", "best", "updated", whole_names=True)
    for row in found.rows:
        best = "" if row.best is None else f"{row.objective.removeprefix('val/')} {row.best:.4f}"
        trials = f"{row.trials}/{row.wanted}" if row.wanted else ""
        table.add_row(escape(row.name), row.state, trials, f"{row.epochs or ''}", best, _time(row.updated))
    _show(found, table, "searches")


def _show(found: Listing[RunRow] | Listing[SearchRow], table: Table, things: str) -> None:
    if not found.rows:
        show_line(f"no {things} in {found.uri}")
        return
    console().print(table)
    for row in found.rows:
        if row.problem:
            show_line(f"{row.name}: {row.problem}")
    if found.left_out:
        show_line(f"{found.left_out} more are not read; --limit {len(found.rows) + found.left_out} reads all")


def show_run(view: RunView) -> None:
    """All that is known of a run."""
    row, status = view.row, view.status
    show_line(f"{row.uri}: {row.state}")
    classes = ", ".join(view.classes[:_MOST_CLASSES])
    more = len(view.classes) - _MOST_CLASSES
    lines = {
        "epochs": f"{row.epoch} of {row.epochs}" if row.epochs else "",
        "step": f"{status.step}" if status is not None and status.step else "",
        "best": "" if row.best is None else f"{_best(row.best)} at step {row.best.step}",
        "updated": row.updated,
        "architecture": view.arch,
        "images": view.data_root,
        f"{len(view.classes)} classes": classes + (f" and {more} more" if more > 0 else ""),
        "checkpoints": ", ".join(f"step {step}" for step in view.checkpoints),
        "evaluated": ", ".join(view.evaluations),
        "bundle": child_uri(row.uri, "bundle") if view.has_bundle else "",
        "tracker": status.tracker if status is not None else "",
        "message": status.message if status is not None else row.problem,
    }
    for name, text in lines.items():
        if text:
            show_line(f"  {name}: {text}")
    for problem in view.problems:
        show_line(f"damaged: {problem}")


def as_json(found: Listing[RunRow] | Listing[SearchRow] | RunView) -> str:
    """The same for programs; a number that JSON does not have is the text "nan", "inf" or "-inf"."""
    return json.dumps(_plain(asdict(found)), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(each) for name, each in cast("dict[str, Any]", value).items()}
        case list() | tuple():
            return [_plain(each) for each in cast("list[Any]", value)]
        case float():
            return plain_number(value)
        case _:
            return value


def _best(best: Best | None) -> str:
    return "" if best is None else f"{best.monitor.removeprefix('val/')} {best.value:.4f}"


def _time(text: str) -> str:
    """The day, and of today the minute; all times are UTC."""
    day, _, clock = text.partition("T")
    return clock[:5] if day == datetime.now(UTC).date().isoformat() else day
