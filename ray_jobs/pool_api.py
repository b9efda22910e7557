"""The commands about clusters as functions: submit, jobs and queue. Callers have them from `ray_jobs.api`.

Importing this module is cheap: each function imports what it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.jobs import JobView
    from cluster.kube.jobs.manifest import JobManifest
    from cluster.kube.queues.apply import Applied
    from cluster.kube.queues.manifest import TeamObjects
    from cluster.kube.queues.team import Team
    from cluster.kube.queues.view import QueueView, Summary
    from ray_jobs.submission.command import PoolFlags, SubmitCommand
    from ray_jobs.submission.submit import PoolJob, RayJob
    from ray_jobs.submission.usage import Usage
    from ray_jobs.submission.watch import JobPlace, LiveView

Say = Callable[[str], None]
silent: Say = lambda _: None  # noqa: E731


def submit_to_pool(command: SubmitCommand, flags: PoolFlags, *, say: Say = silent) -> PoolJob:
    """Start a command as a job on Kubernetes, or find it there."""
    from ray_jobs.submission.submit import submit_to_pool

    return submit_to_pool(command, flags, say)


def submit_to_ray(command: SubmitCommand, *, working_tree: Path | None = None) -> RayJob:
    """Start a command as a job on the Ray at `cluster.address`, with the code of a checkout where one is given."""
    from ray_jobs.submission.submit import submit_to_ray

    return submit_to_ray(command, working_tree)


def job_objects(command: SubmitCommand, flags: PoolFlags, *, server: bool = False, say: Say = silent) -> JobManifest:
    """The Kubernetes objects of a command, none created; with `server`, checked by the API server."""
    from ray_jobs.submission.submit import objects_of

    return objects_of(command, flags, say, server=server)


def run_on_ray(command: SubmitCommand, *, print_line: Say = silent, say: Say = silent) -> int:
    """Run a command on the Ray at `cluster.address` to its end; returns its exit code. `print_line` gets its output."""
    from ray_jobs.submission.submit import run_on_ray

    return run_on_ray(command, print_line, say)


def jobs_list(place: JobPlace) -> list[JobView]:
    """All jobs of a place, the newest first."""
    return place.target().list()


def jobs_status(name: str, place: JobPlace) -> LiveView:
    """A job, and how far its run is where that can be read from here."""
    from ray_jobs.submission.watch import RunReader

    return RunReader().live(place.target().view(name))


def jobs_logs(name: str, place: JobPlace, *, follow: bool = False) -> Iterator[str]:
    """The lines that a job prints, with `follow` until it has ended; the stored ones where its pods are gone."""
    from ray_jobs.submission.watch import log_lines

    return log_lines(place.target(), name, follow=follow)


def jobs_stop(name: str, place: JobPlace) -> JobView:
    """End a job; what it has stored stays."""
    return place.target().stop(name)


def jobs_wait(name: str, place: JobPlace, *, hindered_s: float = 900.0, say: Say = silent) -> int:
    """Wait until a job has ended; returns its exit code, or 1 when its pods were kept from starting `hindered_s`."""
    from ray_jobs.submission.watch import wait_for

    return wait_for(place.target(), name, hindered_s=hindered_s, say=say)


def queue_objects(team: Team) -> TeamObjects:
    """The Kubernetes objects of a team's namespace, queue and rights, none created."""
    from cluster.kube.queues.manifest import render_team

    return render_team(team)


def queue_create(team: Team, *, context: str | None = None, dry_run: bool = False) -> list[Applied]:
    """Make a team's namespace, queue and rights, or change them; with `dry_run` the server only says what would be."""
    from cluster.kube.client.api import KubeApi
    from cluster.kube.queues.apply import apply_team

    return apply_team(KubeApi.connect(context), team, dry_run=dry_run)


def queue_list(*, context: str | None = None) -> list[Summary]:
    """All queues."""
    from cluster.kube.client.api import KubeApi
    from cluster.kube.queues.view import list_queues

    return list_queues(KubeApi.connect(context))


def queue_show(team: str, *, context: str | None = None) -> QueueView:
    """A team's queue: its shares, those it shares with, its jobs."""
    from cluster.kube.client.api import KubeApi
    from cluster.kube.queues.view import view_queue

    return view_queue(KubeApi.connect(context), team)


def queue_usage(since_s: int, teams: Sequence[str], storage_root: str | None, *, context: str | None = None) -> Usage:
    """GPU hours of the last `since_s` seconds, of all teams where none is named; `storage_root`: of runs' records."""
    from ray_jobs.submission.usage import queue_usage

    return queue_usage(since_s, teams, context, storage_root)
