"""The commands of a search: `resnet-dist tune`, and `report` on its results."""

import sys
from typing import Annotated

from cyclopts import Parameter

from ray_jobs.cli.flags import JobFlags, StorageFlags, with_folder
from ray_jobs.cli.program import COMMAND, File, Switch, Text, Whole, Word
from ray_jobs.job.toml import read_job
from ray_jobs.submission.environment import is_ray_jobs_address, this_submission


def tune(
    folder: Text = None,
    /,
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
    """Search for a better configuration than the job's own, or resume the search of the same name and space.

    Every trial trains for at most training.epochs. The job's own configuration is the first trial.
    Ctrl-C ends the search with the best trial so far; the same command resumes it.

    Parameters
    ----------
    folder
        The images, as --data.root.
    config
        The job's TOML file: all that is not searched.
    search
        A TOML file with the search and its space; by default the one that ships.
    dry_run
        Print what the search would try, how long it would take and what it would store, and stop.
    print_search
        Print the complete search as TOML, with a comment for every key, and stop.
    warm_start
        An earlier search: the sampler learns from its finished trials, and its best one is the second trial.
    trials
        The most trials. This flag and those below override the search's file.
    hours
        Hours after which this command ends all trials.
    total_epochs
        Epochs of all trials together after which the search ends.
    max_concurrent_trials
        Trials at the same time; by default as many as fit.
    workers_per_trial
        Workers of each trial; by default cluster.num_workers.
    """
    from ray_jobs.search.toml import print_search as printed
    from ray_jobs.search.toml import read_search

    resolved = read_job(config, with_folder(job or {}, folder))
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
    # What shows the results knows their types, and with them torch and Ray: it comes after what may be refused.
    if dry_run:
        plan = api.plan_search(resolved, settings, space)
        from ray_jobs.cli.show_search import show_plan

        show_plan(plan)
    else:
        outcome = api.tune(resolved, settings, space, warm_start=warm_start, submission=this_submission())
        from ray_jobs.cli.show_search import show_search

        show_search(outcome)
    return None


def report(
    target: Word,
    /,
    *,
    job: Annotated[StorageFlags, Parameter("*")] | None = None,
) -> None:
    """Render the results of a search as one HTML file that needs no network.

    Parameters
    ----------
    target
        A path with a slash, a URI, or the name of a search under storage.root.
    """
    resolved = read_job(None, job or {})
    from ray_jobs import api
    from ray_jobs.terminal.console import show_line

    show_line(api.report(target, storage_root=resolved.storage.root))
