"""The commands of a search: `resnet-dist tune`, and `report` on its results."""

import sys
from typing import Annotated

from cyclopts import Parameter

from ray_jobs.cli.flags import JobFlags, StorageFlags
from ray_jobs.cli.program import COMMAND, File, Switch, Text, Whole, Word
from ray_jobs.job.toml import read_job
from ray_jobs.submission.environment import is_ray_jobs_address, this_submission


def tune(
    *,
    config: File = None,
    search: File = None,
    dry_run: Switch = False,
    print_search: Switch = False,
    warm_start: Text = None,
    trials: Whole = None,
    hours: Annotated[float | None, Parameter(group=COMMAND, show_default=False)] = None,
    total_epochs: Whole = None,
    max_concurrent_trials: Whole = None,
    workers_per_trial: Whole = None,
    job: Annotated[JobFlags, Parameter("*")] | None = None,
) -> int | None:
    """Search for a better configuration than the job's own, or go on with a search of the same name and space.

    Every trial is a training of at most training.epochs; the job's own configuration runs first. Ctrl-C ends with the
    best so far, and the same command goes on.

    Parameters
    ----------
    config
        A TOML file with the job: what is not searched.
    search
        A TOML file with the space and how it is searched; by default the one that ships.
    dry_run
        Print what would be searched, how long it takes and what it stores, and stop.
    print_search
        Print the complete search as TOML, every key with what it does, and stop.
    warm_start
        An earlier search, whose finished trials the sampler knows from the start, and whose best one is tried second.
    trials
        Most trials; this and the flags below win over the file.
    hours
        Hours of this command after which no trial goes on.
    total_epochs
        Epochs over all trials after which no trial goes on.
    max_concurrent_trials
        Trials at a time; by default as many as fit.
    workers_per_trial
        Workers of each trial; by default cluster.num_workers.
    """
    from ray_jobs.search.toml import print_search as printed
    from ray_jobs.search.toml import read_search

    resolved = read_job(config, job or {})
    budget = {
        "trials": trials,
        "hours": hours,
        "total_epochs": total_epochs,
        "max_concurrent_trials": max_concurrent_trials,
        "workers_per_trial": workers_per_trial,
    }
    settings, space = read_search(search, {name: value for name, value in budget.items() if value is not None})
    if print_search:
        sys.stdout.write(printed(settings, space))
        return None
    from ray_jobs import api

    if is_ray_jobs_address(resolved.cluster.address) and not dry_run:
        from ray_jobs.cli.jobs import run_elsewhere
        from ray_jobs.submission.command import SubmitCommand

        return run_elsewhere(SubmitCommand("tune", resolved, search=(settings, space), warm_start=warm_start))
    from ray_jobs.cli.show_search import show_plan, show_search

    if dry_run:
        show_plan(api.plan_search(resolved, settings, space))
    else:
        show_search(api.tune(resolved, settings, space, warm_start=warm_start, submission=this_submission()))
    return None


def report(
    target: Word,
    /,
    *,
    job: Annotated[StorageFlags, Parameter("*")] | None = None,
) -> None:
    """Render a search's results as one HTML file that needs no network.

    Parameters
    ----------
    target
        A path, a URI, or the name of a search under storage.root.
    """
    resolved = read_job(None, job or {})
    from ray_jobs import api
    from ray_jobs.terminal.console import show_line

    show_line(api.report(target, storage_root=resolved.storage.root))
