"""What `jobs` prints: jobs as a table, as lines, or for programs."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cluster.jobs import JobView
from ray_jobs.submission.watch import LiveView, one_line, progress_of
from ray_jobs.terminal.console import console, show_line, table_of


def show_jobs(views: Sequence[JobView]) -> None:
    """A row for each job."""
    if not views:
        show_line("no jobs")
        return
    table = table_of("job", "found")
    for view in views:
        where = f", queue {view.queue}" if view.queue else ""
        table.add_row(view.name, f"{one_line(LiveView(view, None, None)).partition(': ')[2]}{where}")
    console().print(table)


def show_job(live: LiveView) -> None:
    """All that is known of a job."""
    view = live.view
    show_line(one_line(live))
    rows = {
        "verb": view.verb,
        "runs": live.verb if live.verb != view.verb and not view.ended else "",
        "submitted": view.submitted,
        "queue": view.queue,
        "priority": view.priority,
        "run": view.run,
        "progress": ", ".join(progress_of(live.status)) if live.status is not None else "",
        "last line": live.end.last_line if live.end is not None else "",
    }
    for name, value in rows.items():
        if value:
            show_line(f"  {name}: {value}")


def print_json(live: LiveView) -> None:
    """The same for programs: the job, the command that it runs, and the run's status.json where it can be read."""
    value: dict[str, Any] = asdict(live.view)
    value["runs"] = live.verb or live.view.verb
    value["status"] = None if live.status is None else live.status.to_json()
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_line(line: str) -> None:
    """A line of a job's output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line beside the output."""
    sys.stderr.write(f"{text}\n")
