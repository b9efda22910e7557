"""What `queue usage` prints."""

import json
from dataclasses import asdict

from rich.markup import escape

from cluster.kube.queues.usage_view import JobUsage
from ray_jobs.cli.show_queue import unit_of
from ray_jobs.submission.usage import Usage
from ray_jobs.terminal.console import console, show_line, table_of


def usage_as_json(usage: Usage) -> str:
    """Hours of GPUs as JSON."""
    return json.dumps({**asdict(usage.view), "records": asdict(usage.records)}, indent=2) + "\n"


def show_usage(usage: Usage) -> None:
    """Hours of GPUs by team and by job, and what is not known of them."""
    view = usage.view
    show_line(f"GPU hours from {_moment(view.since)} to {_moment(view.until)} UTC")
    teams = table_of("team", "", "used", "borrowed", "lent", "waited")
    for each in view.teams:
        lent = "?" if each.lent_hours is None else _hours(each.lent_hours)
        numbers = (_hours(each.used_hours), _hours(each.borrowed_hours), lent, _hours(each.waited_hours))
        teams.add_row(escape(each.team), unit_of(each.resource), *numbers)
    console().print(teams)
    jobs = table_of("job", "team", "", "used", "borrowed", "waited")
    jobs.columns[1].justify = "left"
    for job in view.jobs:
        numbers = (_hours(job.used_hours), _hours(job.borrowed_hours), _hours(job.waited_hours))
        jobs.add_row(escape(job.job), escape(job.team), unit_of(job.resource), *numbers)
    if view.jobs:
        console().print(jobs)
    else:
        show_line("no jobs with GPUs")
    for note in _notes(usage):
        show_line(f"note: {note}")


def _notes(usage: Usage) -> list[str]:
    view, records = usage.view, usage.records
    notes = [f"jobs of {team} are not counted: {why}" for team, why in view.hidden.items()]
    if any(each.lent_hours is None for each in view.teams):
        notes.append("what is lent is not known (?) where jobs of the same cohort are not counted")
    notes += [_evicted(job) for job in view.jobs if job.evictions]
    if any(job.unplaced_hours and not job.evictions for job in view.jobs):
        notes.append("hours whose flavor is not known count as used, and neither as borrowed nor as lent")
    if records.root is None:
        notes.append("jobs that were deleted are not counted; --storage.root ROOT adds them from their runs' records")
    elif any(job.is_recorded for job in view.jobs):
        notes.append(
            "of jobs that were deleted the time of their drivers counts, by the records of their runs; how long they "
            "waited is not known"
        )
    if records.unreadable:
        notes.append(f"{records.unreadable} records under {records.root} cannot be read and are not counted")
    return notes


def _evicted(job: JobUsage) -> str:
    times = "once" if job.evictions == 1 else f"{job.evictions} times"
    text = f"{job.job} was evicted {times}, and Kueue keeps only the latest times"
    if not job.unplaced_hours:
        return text
    return f"{text}: of its hours {_hours(job.unplaced_hours)} count as used, and neither as borrowed nor as lent"


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours else "0"


def _moment(time: str) -> str:
    """To the minute."""
    return time[:16].replace("T", " ")
