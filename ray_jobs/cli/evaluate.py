"""`resnet-dist evaluate`: a run's model judged on a split."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ray_jobs.cli.flags import job_flags
from ray_jobs.cli.program import File, Text, Word
from ray_jobs.job.toml import read_job_and_overrides
from ray_jobs.job.verb_fields import of_evaluation
from ray_jobs.submission.environment import is_ray_jobs_address

if TYPE_CHECKING:
    EvaluateFlags = dict[str, Any]
else:
    EvaluateFlags = job_flags(of_evaluation)


def evaluate(
    run: Word,
    /,
    *,
    split: Text = None,
    checkpoint: Word = "best",
    config: File = None,
    job: Annotated[EvaluateFlags, Parameter("*")] | None = None,
) -> int | None:
    """Judge a run's model on a split, with 95 % intervals. By default the data are those of the run.

    Parameters
    ----------
    run
        A path with a slash, a URI, or the name of a run under storage.root.
    split
        train, val or test; by default test if the data have one, else val.
    checkpoint
        best, last, or the number of a step.
    config
        A job's TOML file: its [data], [storage], [evaluation] and [cluster] apply, as far as --help lists them.
    """
    resolved, changes = read_job_and_overrides(config, job or {}, of_evaluation)
    from ray_jobs import api

    if is_ray_jobs_address(resolved.cluster.address):
        from ray_jobs.cli.jobs import run_elsewhere
        from ray_jobs.submission.command import SubmitCommand

        given = {"--split": split, "--checkpoint": None if checkpoint == "best" else checkpoint}
        words = tuple(word for flag, value in given.items() if value is not None for word in (flag, value))
        return run_elsewhere(SubmitCommand("evaluate", resolved, run=run, options=words, overrides=changes))
    from ray_jobs.cli.show import show_evaluation

    show_evaluation(api.evaluate(run, split=split, checkpoint=checkpoint, changes=changes))
    return None
