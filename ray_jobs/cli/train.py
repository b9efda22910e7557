"""`resnet-dist train`: one run, or one for each fold of a cross-validation."""

import sys
from typing import Annotated

from cyclopts import Parameter

from ray_jobs.cli.flags import JobFlags, with_folder
from ray_jobs.cli.program import File, Switch, Text
from ray_jobs.job.toml import print_config as printed
from ray_jobs.job.toml import read_job
from ray_jobs.submission.environment import is_ray_jobs_address, this_submission


def train(
    folder: Text = None,
    /,
    *,
    config: File = None,
    print_config: Switch = False,
    job: Annotated[JobFlags, Parameter("*")] | None = None,
) -> int | None:
    """Train a classifier, or resume the run of the same name and identity.

    A flag overrides the file, and the file overrides the defaults.
    A list is several values: --data.mean 0.5 0.5 0.5. "none" unsets a field that may be unset.

    Parameters
    ----------
    folder
        The images, as --data.root.
    config
        A TOML file with any of the keys below; --print-config shows its form.
    print_config
        Print the complete job as TOML, and stop.
    """
    resolved = read_job(config, with_folder(job or {}, folder))
    if print_config:
        sys.stdout.write(printed(resolved))
        return None
    from ray_jobs import api

    if is_ray_jobs_address(resolved.cluster.address):
        from ray_jobs.cli.jobs import run_elsewhere
        from ray_jobs.submission.command import SubmitCommand

        return run_elsewhere(SubmitCommand("train", resolved))
    from ray_jobs.cli.show import show_folds, show_training

    if resolved.data.folds is not None and resolved.data.fold is None:
        show_folds(api.cross_validate(resolved, submission=this_submission()))
    else:
        show_training(api.train(resolved, submission=this_submission()))
    return None
