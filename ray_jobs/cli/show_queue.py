"""What `queue create` and `queue show` print."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from cluster.kube.queues.apply import Applied
from cluster.kube.queues.causes import cause_of
from cluster.kube.queues.quantities import GPU, MEMORY
from cluster.kube.queues.team import Team
from cluster.kube.queues.view import QueuedJob, QueueView, Share, Summary
from ray_jobs.terminal.console import console, show_line, table_of

_NAMES = {GPU: "GPUs", "cpu": "CPUs", MEMORY: "GiB"}
_VENDOR = "nvidia.com/"


def as_json(value: QueueView | Sequence[Summary]) -> str:
    """A queue, or all queues, as JSON."""
    shown = asdict(value) if isinstance(value, QueueView) else [asdict(each) for each in value]
    return json.dumps(shown, indent=2) + "\n"


def show_applied(team: Team, applied: Sequence[Applied], *, dry_run: bool) -> None:
    """What became of a team's objects, or what would."""
    for each in applied:
        if each.change in {"created", "changed"}:
            show_line(f"{each.kind} {each.name}: {'would be ' if dry_run else ''}{each.change}")
    counts = Counter(each.change for each in applied)
    counted = ", ".join(f"{count} {change}" for change, count in counts.items())
    name, namespace = team.team.name, team.namespace
    show_line(f"team {name} in namespace {namespace}: {counted}{' (dry run)' if dry_run else ''}")
    if "not judged" in counts:
        show_line(f"not judged: namespace {namespace} is not there yet")
    if not (team.members.users or team.members.groups):
        show_line("nobody is a member: [members] in the file says who may run jobs")
    if team.storage.secret is not None and not dry_run:
        show_line(
            f"its jobs read the Secret {team.storage.secret}, if it is there: kubectl -n {namespace} create secret "
            f"generic {team.storage.secret} --from-env-file=FILE"
        )
    if not dry_run:
        show_line(f"next: resnet-dist submit train --queue {name} --namespace {namespace} --priority research ...")


def show_queues(queues: Sequence[Summary]) -> None:
    """All queues, a line each."""
    if not queues:
        show_line("there are no queues; `resnet-dist queue create TEAM --config FILE` makes one")
        return
    console().print(_summaries("queue", queues))


def show_queue(view: QueueView) -> None:
    """A team's queue: its shares, those it shares with, its jobs."""
    cohort = f"cohort {view.cohort}" if view.cohort else "no cohort, so it neither borrows nor lends"
    show_line(f"queue {view.name} in namespace {view.namespace}, {cohort}")
    if view.inactive:
        show_line(f"it admits no jobs: {view.inactive}")
    shares = table_of("flavor", "", "own", "used", "reserved", "borrowed", "lent", "at most")
    for each in view.shares:
        # A kind of node without the resource says nothing.
        if each.most or each.reserved:
            amounts = (each.quota, each.used, each.reserved, each.borrowed)
            numbers = [f"{amount:g}" for amount in amounts]
            shares.add_row(each.flavor, unit_of(each.resource), *numbers, _lent(each), f"{each.most:g}")
    console().print(shares)
    if view.others:
        console().print(_summaries("shares with", view.others))
    if view.hidden:
        show_line(f"its jobs are not shown: {view.hidden}")
        return
    if not view.jobs:
        show_line("no jobs")
        return
    jobs = table_of("job", "stage", "before it", "priority", "GPUs", "CPUs", "GiB", "since")
    for column in (1, 3, 7):
        jobs.columns[column].justify = "left"
    for job in view.jobs:
        jobs.add_row(*_row(job))
    console().print(jobs)
    for job in view.jobs:  # in a column they would fill the page
        if job.reason:
            show_line(f"{job.name}: {cause_of(job.reason)}")


def unit_of(resource: str) -> str:
    """What a column calls a resource."""
    return _NAMES.get(resource, resource.removeprefix(_VENDOR))


def _row(job: QueuedJob) -> tuple[str, ...]:
    priority = job.priority_class or f"{job.priority}"
    parts = [f"{count:g} {unit_of(name)}" for name, count in job.devices.items()]
    gpus = " ".join(([f"{job.gpus:g}"] if job.gpus or not parts else []) + parts)
    amounts = (gpus, f"{job.cpus:g}", f"{job.memory_gib:g}")
    position = "" if job.position is None else f"{job.position}"
    return (escape(job.name), job.stage, position, priority, *amounts, job.created.removesuffix("Z").replace("T", " "))


def _lent(share: Share) -> str:
    least, most = f"{share.lent_least:g}", f"{share.lent_most:g}"
    return most if least == most else f"{least} .. {most}"


def _summaries(title: str, queues: Sequence[Summary]) -> Table:
    stopped = [""] if any(each.inactive for each in queues) else []
    table = table_of(title, "cohort", "own GPUs", "used", "borrowed", "running", "waiting", *stopped)
    table.columns[1].justify = "left"
    for each in queues:
        numbers = (f"{each.gpus:g}", f"{each.used:g}", f"{each.borrowed:g}", f"{each.running}", f"{each.waiting}")
        reason = [f"admits no jobs: {escape(each.inactive)}" if each.inactive else ""] if stopped else []
        table.add_row(each.name, each.cohort, *numbers, *reason)
    return table
