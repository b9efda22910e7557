"""`resnet-dist compress plan` and `show`: what a smaller network would cost, and what it did. Nothing is trained."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ray_jobs.cli.flags import job_flags
from ray_jobs.cli.program import COMMAND, File, Number, Switch, Text, Whole, Word
from ray_jobs.job.verb_fields import of_evaluation

if TYPE_CHECKING:
    ShowFlags = dict[str, Any]
else:
    ShowFlags = job_flags(of_evaluation)

Scope = Annotated[Literal["inner", "blocks", "all"], Parameter(group=COMMAND)]


def plan(
    run: Word,
    /,
    *,
    target: Word,
    scope: Scope = "inner",
    floor: Number = 0.25,
    threads: Whole = None,
    latency_table: File = None,
    json: Switch = False,
    job: Annotated[ShowFlags, Parameter("*")] | None = None,
) -> None:
    """Say what a target comes to, and what can be reached, without training: exit code 2 where it cannot be met.

    Parameters
    ----------
    run
        A path with a slash, a URI, or the name of a run under storage.root.
    target
        As of `compress prune`.
    scope
        As of `compress prune`.
    floor
        As of `compress prune`.
    threads
        As of `compress prune`.
    latency_table
        As of `compress prune`.
    json
        Print JSON.
    """
    from ray_jobs import api
    from ray_jobs.cli.show_compress import as_json, show_plan
    from ray_jobs.compression.request import PruneRequest

    request = PruneRequest(target, scope, floor=floor, threads=threads, latency_table=path_text(latency_table))
    say = _progress(json)
    found = api.compress_plan(run, request, changes=job or {}, say=say)
    sys.stdout.write(as_json(found.to_json())) if json else show_plan(found)


def show(
    run: Word,
    /,
    *,
    split: Text = None,
    threads: Annotated[int, Parameter(group=COMMAND)] = 1,
    seconds: Number = 5.0,
    json: Switch = False,
    job: Annotated[ShowFlags, Parameter("*")] | None = None,
) -> None:
    """Show what each phase cost in accuracy and gave in size and speed, all judged on the same images.

    Parameters
    ----------
    run
        A compressed run: a path with a slash, a URI, or the name of a run under storage.root.
    split
        train, val or test; by default test if the data have one, else val.
    threads
        Of each runtime.
    seconds
        Seconds for which each network is timed in each runtime; 0 times nothing.
    json
        Print JSON.
    """
    from ray_jobs import api
    from ray_jobs.cli.show_compress import as_json, show_ladder

    say = _progress(json)
    found = api.compress_show(run, changes=job or {}, split=split, threads=threads, seconds=seconds, say=say)
    sys.stdout.write(as_json(found.to_json())) if json else show_ladder(found)


def _progress(json: bool) -> Callable[[str], None]:
    """Where lines of progress go: JSON has stdout to itself."""
    from ray_jobs.terminal.console import show_line
    from ray_jobs.terminal.watcher import note

    return note if json else show_line


def path_text(path: Path | None) -> str | None:
    """Of a flag that may be unset."""
    return None if path is None else str(path)
