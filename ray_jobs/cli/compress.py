"""`resnet-dist compress`: makes a trained run smaller and faster, and says at which price."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from ray_jobs.cli.flags import JobFlags, job_flags
from ray_jobs.cli.program import COMMAND, File, Number, Switch, Text, Whole, Word
from ray_jobs.job.toml import read_changes
from ray_jobs.job.toml_codec import Tree
from ray_jobs.job.verb_fields import of_evaluation
from ray_jobs.submission.environment import is_ray_jobs_address, this_submission

if TYPE_CHECKING:
    ShowFlags = dict[str, Any]
else:
    ShowFlags = job_flags(of_evaluation)

compress = App(name="compress", help="Make a trained run smaller and faster: distil, prune, and show what it cost.")

Scope = Annotated[Literal["inner", "blocks", "all"], Parameter(group=COMMAND)]
Rounds = Annotated[int | None, Parameter(group=COMMAND, show_default=False)]
MaxLoss = Annotated[float | None, Parameter(group=COMMAND, show_default=False)]


@compress.command
def distill(
    run: Word,
    /,
    *,
    max_loss: MaxLoss = None,
    config: File = None,
    job: Annotated[JobFlags, Parameter("*")] | None = None,
) -> int | None:
    """Train a smaller network that learns from a finished run: name it with --model.arch or --model.widths.

    The job is the run's own with what the file and the flags change. The student's first weights are torchvision's
    where they are on this machine, else the teacher's by width. [distillation] has temperature, weight and features.

    Parameters
    ----------
    run
        The teacher: a path with a slash, a URI, or the name of a run under storage.root.
    max_loss
        Points of top-1 that the student may lose, such as 1.0: the exit code is 4 unless the 95 % interval of the loss
        on test (else val) lies below.
    config
        A TOML file with any of the keys below.
    """
    changes = read_changes(config, job or {})
    if (code := _elsewhere(changes, "distill", run, {"--max-loss": max_loss})) is not None:
        return code
    from ray_jobs import api
    from ray_jobs.cli.show_compress import show_phase

    outcome = api.compress_distill(run, changes=changes, max_loss=max_loss, submission=this_submission())
    show_phase(outcome)
    return None


@compress.command
def prune(
    run: Word,
    /,
    *,
    target: Word,
    scope: Scope = "inner",
    rounds: Rounds = None,
    floor: Number = 0.25,
    score_microbatches: Annotated[int, Parameter(group=COMMAND)] = 64,
    threads: Whole = None,
    latency_table: File = None,
    max_loss: MaxLoss = None,
    config: File = None,
    job: Annotated[JobFlags, Parameter("*")] | None = None,
) -> int | None:
    """Remove the channels or blocks that matter least until a target is met; recover by learning from the whole run.

    Each round scores channels, cuts, estimates BatchNorm's statistics anew and trains. A round is a run of its own;
    the same command resumes after an interruption.

    Parameters
    ----------
    run
        A path with a slash, a URI, or the name of a run under storage.root.
    target
        macs=0.5, parameters=0.3, bytes=10MB@onnx, latency=4ms@openvino, latency=0.4x@openvino: a share of what the run
        has now, or an amount.
    scope
        inner: the widths inside each block. blocks: whole blocks. all: also the widths of stages.
    rounds
        Cuts, each followed by recovery; by default 3, or 1 where three quarters are kept.
    floor
        The smallest share of a layer's channels that is kept.
    score_microbatches
        Microbatches of the training split by which channels are scored.
    threads
        Of the engine that a latency is of; by default all cores.
    latency_table
        A table that `compress plan` or an earlier `prune` measured on this machine; by default one is kept under
        storage.root.
    max_loss
        Points of top-1 that the result may lose, such as 1.0: the exit code is 4 unless the 95 % interval of the loss
        on test (else val) lies below.
    config
        A TOML file with any of the keys below: the job of the recovery.
    """
    changes = read_changes(config, job or {})
    flags = {
        "--target": target,
        "--scope": scope,
        "--rounds": rounds,
        "--floor": floor,
        "--score-microbatches": score_microbatches,
        "--threads": threads,
        "--latency-table": latency_table,
        "--max-loss": max_loss,
    }
    if (code := _elsewhere(changes, "prune", run, flags)) is not None:
        return code
    from ray_jobs import api
    from ray_jobs.cli.show_compress import show_phase
    from ray_jobs.compression.request import PruneRequest
    from ray_jobs.terminal.console import show_line

    request = PruneRequest(target, scope, rounds, floor, score_microbatches, threads, _text(latency_table))
    show_phase(
        api.compress_prune(
            run, request, changes=changes, max_loss=max_loss, submission=this_submission(), say=show_line
        )
    )
    return None


@compress.command
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

    request = PruneRequest(target, scope, floor=floor, threads=threads, latency_table=_text(latency_table))
    say = _progress(json)
    found = api.compress_plan(run, request, changes=job or {}, say=say)
    sys.stdout.write(as_json(found.to_json())) if json else show_plan(found)


@compress.command
def chain(
    run: Word,
    /,
    *,
    recipe: Word,
    config: File = None,
    job: Annotated[JobFlags, Parameter("*")] | None = None,
) -> int | None:
    """Run the phases of a recipe one after the other, each on the result of the one before it.

    The same command resumes at the phase and the step where it was interrupted.

    Parameters
    ----------
    run
        A path with a slash, a URI, or the name of a run under storage.root.
    recipe
        half-latency, quarter-size, smallest-within-1pt, or a TOML file.
    config
        A TOML file with any of the keys below: the job of each phase.
    """
    changes = read_changes(config, job or {})
    if (code := _elsewhere(changes, "chain", run, {"--recipe": recipe})) is not None:
        return code
    from ray_jobs import api
    from ray_jobs.cli.show_compress import show_chain
    from ray_jobs.terminal.console import show_line

    show_chain(api.compress_chain(run, recipe, changes=changes, submission=this_submission(), say=show_line))
    return None


@compress.command
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


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _elsewhere(changes: Tree, phase: str, run: str, flags: Mapping[str, object]) -> int | None:
    """Submit the command where cluster.address is a Ray Jobs API; its exit code, None where it is to run here."""
    if not is_ray_jobs_address(changes.get("cluster", {}).get("address")):
        return None
    from ray_jobs.cli.jobs import run_elsewhere
    from ray_jobs.submission.command import on_compressed

    words = tuple(str(word) for flag, value in flags.items() if value is not None for word in (flag, value))
    return run_elsewhere(on_compressed(phase, run, words, changes))
