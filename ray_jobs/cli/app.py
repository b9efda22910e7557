"""The command line. Commands import what they run when they run it: help and wrong usage answer at once."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from ray_jobs.cli.bundles import benchmark, export, promote, pull
from ray_jobs.cli.flags import job_flags
from ray_jobs.cli.jobs import jobs, submit
from ray_jobs.cli.predict import predict
from ray_jobs.cli.program import COMMAND as _COMMAND
from ray_jobs.cli.program import answer, new_app
from ray_jobs.cli.queue import queue
from ray_jobs.errors import ExitCode
from ray_jobs.job import toml as job_file
from ray_jobs.job.toml import read_job, read_job_and_overrides
from ray_jobs.job.verb_fields import of_evaluation
from ray_jobs.submission.environment import is_ray_jobs_address, this_submission

if TYPE_CHECKING:
    JobFlags = dict[str, Any]
    EvaluateFlags = dict[str, Any]
    DoctorFlags = dict[str, Any]
    ReportFlags = dict[str, Any]
else:
    JobFlags = job_flags()
    EvaluateFlags = job_flags(of_evaluation)
    ReportFlags = job_flags(lambda name: name == "storage.root")
    DoctorFlags = job_flags(
        lambda name: name in {"model.arch", "model.weights", "storage.root", "cluster.use_gpu", "cluster.address"}
    )

Config = Annotated[Path | None, Parameter(group=_COMMAND, show_default=False)]

app = new_app()
data = App(name="data", help="Make and prepare data sets.")
app.command(data)
app.command(queue)
for command in (export, predict, benchmark, promote, pull, submit, jobs):
    app.command(command)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line (by default the process's own) and return its exit code."""
    return answer(app, list(sys.argv[1:] if arguments is None else arguments))


@app.command
def train(
    *,
    config: Config = None,
    print_config: Annotated[bool, Parameter(group=_COMMAND, negative=(), show_default=False)] = False,
    job: Annotated[JobFlags, Parameter("*")] | None = None,
) -> int | None:
    """Train a classifier, or go on with a run of the same name and identity.

    A flag wins over the file, the file over the defaults.
    Lists are several values: --data.mean 0.5 0.5 0.5. "none" unsets what may be unset.

    Parameters
    ----------
    config
        A TOML file with any of the keys below; --print-config shows its form.
    print_config
        Print the complete job that would run, as TOML, and stop.
    """
    resolved = read_job(config, job or {})
    if print_config:
        sys.stdout.write(job_file.print_config(resolved))
        return None
    if is_ray_jobs_address(resolved.cluster.address):
        from ray_jobs.submission.dispatch import run_elsewhere
        from ray_jobs.submission.plan import Asked

        return run_elsewhere(Asked("train", resolved))
    if resolved.data.folds is not None and resolved.data.fold is None:
        from ray_jobs.cli.show import show_folds
        from ray_jobs.training.cross_validation import run_folds

        show_folds(run_folds(resolved, this_submission()))
        return None
    from ray_jobs.cli.show import show_training
    from ray_jobs.training.driver import run_train

    show_training(run_train(resolved, this_submission()))
    return None


@app.command
def tune(
    *,
    config: Config = None,
    search: Annotated[Path | None, Parameter(group=_COMMAND, show_default=False)] = None,
    dry_run: Annotated[bool, Parameter(group=_COMMAND, negative=(), show_default=False)] = False,
    print_search: Annotated[bool, Parameter(group=_COMMAND, negative=(), show_default=False)] = False,
    warm_start: Annotated[str | None, Parameter(group=_COMMAND, show_default=False)] = None,
    trials: Annotated[int | None, Parameter(group=_COMMAND, show_default=False)] = None,
    hours: Annotated[float | None, Parameter(group=_COMMAND, show_default=False)] = None,
    total_epochs: Annotated[int | None, Parameter(group=_COMMAND, show_default=False)] = None,
    max_concurrent_trials: Annotated[int | None, Parameter(group=_COMMAND, show_default=False)] = None,
    workers_per_trial: Annotated[int | None, Parameter(group=_COMMAND, show_default=False)] = None,
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
    if is_ray_jobs_address(resolved.cluster.address) and not dry_run:
        from ray_jobs.submission.dispatch import run_elsewhere
        from ray_jobs.submission.plan import Asked

        return run_elsewhere(Asked("tune", resolved, search=(settings, space), warm_start=warm_start))
    from ray_jobs.cli.show_search import show_plan, show_search

    if dry_run:
        from ray_jobs.search.dry_run import plan_search

        show_plan(plan_search(resolved, settings, space))
        return None
    from ray_jobs.search.tune import run_tune

    show_search(run_tune(resolved, settings, space, warm_start, this_submission()))
    return None


@app.command
def report(
    target: Annotated[str, Parameter(group=_COMMAND)],
    /,
    *,
    job: Annotated[ReportFlags, Parameter("*")] | None = None,
) -> None:
    """Render a search's results as one HTML file that needs no network.

    Parameters
    ----------
    target
        A path, a URI, or the name of a search under storage.root.
    """
    resolved = read_job(None, job or {})
    from ray_jobs.search.report_page import run_report
    from ray_jobs.terminal.console import show_line

    show_line(run_report(target, resolved.storage.root))


@app.command
def evaluate(
    run: Annotated[str, Parameter(group=_COMMAND)],
    /,
    *,
    split: Annotated[str | None, Parameter(group=_COMMAND, show_default=False)] = None,
    checkpoint: Annotated[str, Parameter(group=_COMMAND)] = "best",
    config: Config = None,
    job: Annotated[EvaluateFlags, Parameter("*")] | None = None,
) -> int | None:
    """Judge a run's model on a split, with 95 % intervals; data.root is the run's own unless given.

    Parameters
    ----------
    run
        A path, a URI, or the name of a run under storage.root.
    split
        train, val or test; by default test where there is one, else val.
    checkpoint
        best, last, or the number of a step.
    config
        A job's TOML file: where its data and storage are and how it is judged; all else in it is left alone.
    """
    resolved, overrides = read_job_and_overrides(config, job or {}, of_evaluation)
    if is_ray_jobs_address(resolved.cluster.address):
        from ray_jobs.submission.dispatch import run_elsewhere
        from ray_jobs.submission.plan import Asked

        given = {"--split": split, "--checkpoint": None if checkpoint == "best" else checkpoint}
        words = tuple(word for flag, value in given.items() if value is not None for word in (flag, value))
        return run_elsewhere(Asked("evaluate", resolved, run=run, options=words, overrides=overrides))
    from ray_jobs.cli.show import show_evaluation
    from ray_jobs.evaluation.evaluate import run_evaluate

    show_evaluation(run_evaluate(run, split, checkpoint, overrides))
    return None


@data.command
def sample(
    name: Annotated[Literal["digits", "fashion-mnist"], Parameter(group=_COMMAND)],
    folder: Annotated[Path, Parameter(group=_COMMAND)],
    /,
) -> None:
    """Write a small public data set as a folder of images for each class.

    Parameters
    ----------
    name
        digits: 1,797 handwritten digits, bundled with scikit-learn. fashion-mnist: 70,000 garments, from the Debian
        package dataset-fashion-mnist.
    folder
        Where to; the same sample there is completed.
    """
    from data_pipeline.example_data import write_digits, write_fashion_mnist
    from ray_jobs.terminal.console import show_line

    write = {"digits": write_digits, "fashion-mnist": write_fashion_mnist}[name]
    write(folder)
    show_line(f"{name} in {folder}")


@data.command
def split(
    folder: Annotated[Path, Parameter(group=_COMMAND)],
    /,
    *,
    output: Annotated[Path, Parameter(group=_COMMAND)],
    labels: Annotated[Path | None, Parameter(group=_COMMAND, show_default=False)] = None,
    group_regex: Annotated[str | None, Parameter(group=_COMMAND, show_default=False)] = None,
    group_column: Annotated[str | None, Parameter(group=_COMMAND, show_default=False)] = None,
    group_gap: Annotated[int | None, Parameter(group=_COMMAND, show_default=False)] = None,
    val_fraction: Annotated[float, Parameter(group=_COMMAND)] = 0.15,
    test_fraction: Annotated[float, Parameter(group=_COMMAND)] = 0.15,
    folds: Annotated[int | None, Parameter(group=_COMMAND, show_default=False)] = None,
    seed: Annotated[int, Parameter(group=_COMMAND)] = 0,
    overwrite: Annotated[bool, Parameter(group=_COMMAND, negative=(), show_default=False)] = False,
) -> None:
    """Split a folder's images into train, val and test, with groups whole, and write that down for data.labels.

    Splits that the data have stay, and with --folds their folds. At most one --group flag; images without a group
    are alone.

    Parameters
    ----------
    folder
        An ImageFolder, or the folder that the paths in --labels are relative to.
    output
        The CSV to write: path, label, split, group, fold.
    labels
        A CSV or Parquet file of paths and labels, instead of class folders; relative to the working directory.
    group_regex
        A regular expression: its first group, or its whole match, in an image's path names the image's group.
    group_column
        The column of --labels that names groups; by default group, where there is one.
    group_gap
        Images of one class whose file names' numbers lie within this of the next one are a group.
    val_fraction
        Share of each class that goes to val where the data have no val split.
    test_fraction
        Share of each class that goes to test where the data have no splits.
    folds
        Deal train and val to so many folds of a cross-validation, too.
    seed
        What the split is a function of, besides the images' paths; data.folds repeats it with the same one.
    overwrite
        Replace the output where it is there.
    """
    given = {"root": str(folder), "labels": "" if labels is None else str(labels.expanduser().absolute())}
    shares = {"val_fraction": val_fraction, "test_fraction": test_fraction, "folds": folds}
    job = job_file.check({"seed": seed, "data": given | shares})
    from ray_jobs.data.split import Grouping, run_split
    from ray_jobs.terminal.console import show_line

    grouping = Grouping(group_regex, group_column, group_gap)
    done = run_split(job.data, job.seed, grouping, output, overwrite=overwrite)
    counts = ", ".join(f"{count} {name}" for name, count in done.counts.items())
    grouped = f"; {done.groups} groups, {done.alone} images alone" if done.groups else ""
    show_line(f"{done.output}: {counts}{grouped}{f'; {done.folds} folds' if done.folds else ''}")
    show_line(f"to train with it: --data.labels {shlex.quote(done.labels)}")


@app.command
def doctor(
    *,
    config: Config = None,
    timeout: Annotated[float, Parameter(group=_COMMAND)] = 60.0,
    json: Annotated[Path | None, Parameter(group=_COMMAND, show_default=False)] = None,
    job: Annotated[DoctorFlags, Parameter("*")] | None = None,
) -> ExitCode:
    """Check whether this machine, or each node of the Ray at cluster.address, can run jobs, and how to mend it.

    Parameters
    ----------
    config
        The TOML file of a job to check for.
    timeout
        Seconds to wait for an answer of a node of a cluster; a node that gives none is named.
    json
        Write what was found there, too: a list of objects with node, name, status, found, remedy.
    """
    resolved = read_job(config, job or {})
    from ray_jobs.cli.show import show_checks, show_node_checks, write_checks

    if resolved.cluster.address is None:
        from ray_jobs.doctor.machine import diagnose

        checks = diagnose(resolved)
        named = [("", check) for check in checks]
        show_checks(checks)
    else:
        from ray_jobs.doctor.cluster import diagnose_cluster

        named = diagnose_cluster(resolved, timeout)
        show_node_checks(named)
    if json is not None:
        write_checks(json, named)
    return ExitCode.FAILED if any(check.status == "error" for _, check in named) else ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
