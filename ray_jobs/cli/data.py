"""The commands that make, inspect and prepare data sets: `resnet-dist data sample|inspect|split|diff`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from ray_jobs.cli.flags import job_flags, with_folder
from ray_jobs.cli.program import COMMAND, File, Number, Switch, Text, Whole, Word
from ray_jobs.job.toml import check, read_job_and_overrides
from ray_jobs.job.toml_codec import merged
from ray_jobs.job.verb_fields import HOW_IMAGES_ARE_READ, of_inspection

data = App(name="data", help="Make, inspect and prepare data sets.")

if TYPE_CHECKING:
    InspectFlags = dict[str, Any]
    DiffFlags = dict[str, Any]
    SplitFlags = dict[str, Any]
else:
    InspectFlags = job_flags(of_inspection)
    DiffFlags = job_flags({"storage.root", *HOW_IMAGES_ARE_READ}.__contains__)
    SplitFlags = job_flags(HOW_IMAGES_ARE_READ.__contains__)


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
def inspect(
    folder: Text = None,
    /,
    *,
    config: File = None,
    radius: Whole = None,
    reread: Switch = False,
    predictions: Text = None,
    job: Annotated[InspectFlags, Parameter("*")] | None = None,
) -> None:
    """Look at every image once, and say what is wrong with the data before anything is trained.

    It finds files that cannot be read, copies across splits and across labels, classes too small to judge, and more.
    Nothing in the folder is changed. The record stays under storage.root; `train` and `evaluate` go by it.

    Parameters
    ----------
    folder
        The images, as --data.root.
    config
        A job's TOML file: what it says of the data applies, as far as --help lists it.
    radius
        Images are copies if their hashes differ in at most this many of 256 bits; by default found from the data.
    reread
        Read every file again, whatever was remembered of it.
    predictions
        A finished run of data.folds on the same images: its folds' models tell which labels are likely to be wrong.
    """
    resolved, _ = read_job_and_overrides(config, with_folder(job or {}, folder), of_inspection)
    from ray_jobs import api
    from ray_jobs.cli.show_data import show_inspection

    show_inspection(api.inspect(resolved, radius=radius, reread=reread, predictions=predictions))


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
    groups: Annotated[Literal["duplicates"] | None, Parameter(group=COMMAND, show_default=False)] = None,
    radius: Whole = None,
    val_fraction: Number = 0.15,
    test_fraction: Number = 0.15,
    folds: Whole = None,
    seed: Annotated[int, Parameter(group=COMMAND)] = 0,
    overwrite: Switch = False,
    job: Annotated[SplitFlags, Parameter("*")] | None = None,
) -> None:
    """Split a folder's images into train, val and test, keep groups whole, and write a file for data.labels.

    Existing splits and, with --folds, existing folds stay. Give at most one --group flag; --groups duplicates may
    stand beside --group-column. An image without a group is a group of its own.

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
    groups
        duplicates: images that are copies or near copies, as `data inspect` finds them, stay together; where the data
        have splits, copies move to the one of theirs that is furthest from training.
    radius
        With --groups duplicates, as in `data inspect`.
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
    whole = check(merged(job or {}, {"seed": seed, "data": given | shares}))
    from ray_jobs import api
    from ray_jobs.data.split import Grouping
    from ray_jobs.terminal.console import show_line

    grouping = Grouping(group_regex, group_column, group_gap)
    done = api.split(
        whole.data,
        output,
        seed=whole.seed,
        grouping=grouping,
        overwrite=overwrite,
        duplicates=groups == "duplicates",
        radius=radius,
    )
    counts = ", ".join(f"{count} {name}" for name, count in done.counts.items())
    grouped = f"; {done.groups} groups, {done.alone} images alone" if done.groups else ""
    show_line(f"{done.output}: {counts}{grouped}{f'; {done.folds} folds' if done.folds else ''}")
    show_line(f"to train with it: --data.labels {shlex.quote(done.labels)}")


@data.command
def diff(
    first: Word,
    second: Word,
    /,
    *,
    output: File = None,
    radius: Whole = None,
    job: Annotated[DiffFlags, Parameter("*")] | None = None,
) -> None:
    """Say what differs between two data sets: images that came, went, were replaced, relabelled or moved.

    It also lists images of one that are copies of test images of the other. Nothing is changed.

    Parameters
    ----------
    first
        A folder of images, a labels file (paths relative to its own folder), or a run: what it was trained on.
    second
        The same, to compare with the first.
    output
        A JSON file to write all of it to; the terminal shows the first of each kind.
    radius
        Images are copies if their hashes differ in at most this many of 256 bits; by default found from the data.
    """
    where = check(job or {})
    from ray_jobs import api
    from ray_jobs.cli.show_data import show_difference
    from ray_jobs.terminal.output_file import output_file
    from resnet_dist.sealed_json import json_bytes

    outcome = api.diff(first, second, where, radius=radius)
    if output is not None:
        with output_file(output) as file:
            file.write(json_bytes(outcome.to_json()))
    show_difference(outcome)
