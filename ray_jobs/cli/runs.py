"""The commands that look at what storage holds: `resnet-dist runs list|show` and `searches list`."""

import sys
from typing import Annotated, Any

from cyclopts import App, Parameter

from ray_jobs.cli.flags import StorageFlags
from ray_jobs.cli.program import COMMAND, Switch, Word
from ray_jobs.errors import ConfigError
from ray_jobs.job.toml import read_job

runs = App(name="runs", help="List the runs under storage.root, and show one.")
searches = App(name="searches", help="List the searches under storage.root.")

Limit = Annotated[int, Parameter(group=COMMAND)]


@runs.command(name="list")
def list_runs(
    *, limit: Limit = 200, json: Switch = False, job: Annotated[StorageFlags, Parameter("*")] | None = None
) -> None:
    """List runs with state, epochs and best metric, those that were last updated first. A damaged run is a row, too.

    Parameters
    ----------
    limit
        The most runs that are read, the first ones by name; the output says how many are left out.
    json
        Print JSON.
    """
    root = _root(job, limit)
    from ray_jobs import api
    from ray_jobs.cli.show_runs import as_json, show_runs

    found = api.runs_list(storage_root=root, limit=limit)
    sys.stdout.write(as_json(found)) if json else show_runs(found)


@runs.command
def show(run: Word, /, *, json: Switch = False, job: Annotated[StorageFlags, Parameter("*")] | None = None) -> None:
    """Show what is known of a run: how far it is, its best epoch, what it was trained on, what is stored of it.

    Parameters
    ----------
    run
        A path with a slash, a URI, or the name of a run under storage.root.
    json
        Print JSON.
    """
    root = _root(job)
    from ray_jobs import api
    from ray_jobs.cli.show_runs import as_json, show_run

    found = api.runs_show(run, storage_root=root)
    sys.stdout.write(as_json(found)) if json else show_run(found)


@searches.command(name="list")
def list_searches(
    *, limit: Limit = 200, json: Switch = False, job: Annotated[StorageFlags, Parameter("*")] | None = None
) -> None:
    """List searches with their trials and best value, those that were last updated first. A damaged one is a row, too.

    Parameters
    ----------
    limit
        The most searches that are read, the first ones by name; the output says how many are left out.
    json
        Print JSON.
    """
    root = _root(job, limit)
    from ray_jobs import api
    from ray_jobs.cli.show_runs import as_json, show_searches

    found = api.searches_list(storage_root=root, limit=limit)
    sys.stdout.write(as_json(found)) if json else show_searches(found)


def _root(job: dict[str, Any] | None, limit: int = 1) -> str:
    if limit < 1:
        raise ConfigError(f"--limit {limit}: give a whole number of at least 1")
    return read_job(None, job or {}).storage.root
