"""The commands that make and prepare data sets: `resnet-dist data sample|split`."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from ray_jobs.cli.program import COMMAND, File, Number, Switch, Text, Whole
from ray_jobs.job.toml import check

data = App(name="data", help="Make and prepare data sets.")


@data.command
def sample(
    name: Annotated[Literal["digits", "fashion-mnist"], Parameter(group=COMMAND)],
    folder: Annotated[Path, Parameter(group=COMMAND)],
    /,
) -> None:
    """Write a small public data set as a folder of images for each class.

    Parameters
    ----------
    name
        digits: 1,797 handwritten digits of scikit-learn; fashion-mnist: Debian's package dataset-fashion-mnist.
    folder
        The folder to write; an interrupted sample there is completed.
    """
    from ray_jobs import api
    from ray_jobs.terminal.console import show_line

    api.sample(name, folder)
    show_line(f"{name} in {folder}")


@data.command
def split(
    folder: Annotated[Path, Parameter(group=COMMAND)],
    /,
    *,
    output: Annotated[Path, Parameter(group=COMMAND)],
    labels: File = None,
    group_regex: Text = None,
    group_column: Text = None,
    group_gap: Whole = None,
    val_fraction: Number = 0.15,
    test_fraction: Number = 0.15,
    folds: Whole = None,
    seed: Annotated[int, Parameter(group=COMMAND)] = 0,
    overwrite: Switch = False,
) -> None:
    """Split a folder's images into train, val and test, keep groups whole, and write a file for data.labels.

    Existing splits and, with --folds, existing folds stay. Give at most one --group flag.
    An image without a group is a group of its own.

    Parameters
    ----------
    folder
        An ImageFolder, or the folder that the paths in --labels are relative to.
    output
        The CSV file to write: path, label, split, group, fold.
    labels
        A CSV or Parquet file of paths and labels, instead of class folders; relative to the working directory.
    group_regex
        A regular expression; its first group, or its whole match, in an image's path names the image's group.
    group_column
        The column of --labels that names groups; by default "group" if there is one.
    group_gap
        Group images of one class while the numbers in their file names differ by at most this from one to the next.
    val_fraction
        Share of each class for val, if the data have no val split.
    test_fraction
        Share of each class for test, if the data have no splits.
    folds
        Also deal train and val to this number of folds of a cross-validation.
    seed
        The split is a function of this seed and the images' paths; data.folds with the same seed repeats it.
    overwrite
        Replace an existing output.
    """
    given = {"root": str(folder), "labels": "" if labels is None else str(labels.expanduser().absolute())}
    shares = {"val_fraction": val_fraction, "test_fraction": test_fraction, "folds": folds}
    job = check({"seed": seed, "data": given | shares})
    from ray_jobs import api
    from ray_jobs.data.split import Grouping
    from ray_jobs.terminal.console import show_line

    grouping = Grouping(group_regex, group_column, group_gap)
    done = api.split(job.data, output, seed=job.seed, grouping=grouping, overwrite=overwrite)
    counts = ", ".join(f"{count} {name}" for name, count in done.counts.items())
    grouped = f"; {done.groups} groups, {done.alone} images alone" if done.groups else ""
    show_line(f"{done.output}: {counts}{grouped}{f'; {done.folds} folds' if done.folds else ''}")
    show_line(f"to train with it: --data.labels {shlex.quote(done.labels)}")
