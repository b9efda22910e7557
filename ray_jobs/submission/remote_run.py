"""A command that runs on a Ray elsewhere: its output here, its exit code, and the way back to it."""

import shlex
import sys
from collections.abc import Callable

from cluster.errors import TargetUnreachableError
from cluster.jobs import JobRequest, JobView
from cluster.jobs_api.target import RayJobsTarget
from ray_jobs.errors import ExitCode


def run_remotely(target: RayJobsTarget, request: JobRequest, say: Callable[[str], None]) -> int:
    """Submit a job and print what it prints until it has ended; returns its own exit code.

    Ctrl-C leaves the job as it is and returns 130. Raises SubmissionError or TargetUnreachableError; `say` gets what
    is to be said besides, one message at a time.
    """
    name = request.name
    where = f"{shlex.quote(name)} --cluster.address {shlex.quote(target.address)}"
    ways = f"look again: resnet-dist jobs logs {where} --follow; stop it: resnet-dist jobs stop {where}"
    view = target.submit(request)
    say(f"job {name} on {target.address} is {_described(view)}")
    try:
        for line in target.logs(name, follow=True):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        for view in target.follow(name):  # noqa: B007 - the last one counts
            pass
    except KeyboardInterrupt:
        say(f"job {name} goes on; {ways}")
        return ExitCode.INTERRUPTED
    except TargetUnreachableError:
        say(f"job {name} may go on; {ways}")
        raise
    say(f"job {name} is {_described(view)}")
    match view.state:
        case "done":
            return ExitCode.DONE
        case "stopped":
            return ExitCode.INTERRUPTED
        case _:
            return view.exit_code or ExitCode.FAILED


def _described(view: JobView) -> str:
    attempt = f", attempt {view.attempt}" if view.attempt > 1 else ""
    return f"{view.state}{attempt}{f' ({view.reason})' if view.reason else ''}"
