"""`resnet-dist compress`: makes a trained run smaller and faster, and says at which price."""

from collections.abc import Mapping
from typing import Annotated

from cyclopts import App, Parameter

from ray_jobs.cli.compress_show import Scope, path_text, plan, show
from ray_jobs.cli.flags import JobFlags
from ray_jobs.cli.program import COMMAND, File, Number, Switch, Whole, Word
from ray_jobs.job.toml import read_changes
from ray_jobs.job.toml_codec import Tree
from ray_jobs.submission.environment import is_ray_jobs_address, this_submission

compress = App(
    name="compress", help="Make a trained run smaller and faster: distil, prune, quantise, and show what it cost."
)

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

    request = PruneRequest(target, scope, rounds, floor, score_microbatches, threads, path_text(latency_table))
    show_phase(
        api.compress_prune(
            run, request, changes=changes, max_loss=max_loss, submission=this_submission(), say=show_line
        )
    )
    return None


@compress.command
def quantize(
    run: Word,
    /,
    *,
    always: Switch = False,
    max_loss: MaxLoss = None,
    config: File = None,
    job: Annotated[JobFlags, Parameter("*")] | None = None,
) -> int | None:
    """Have a run compute in 8 bits: set ranges, and train where that alone loses more than export allows.

    Ranges are set by some training images. Nothing is trained where top-1 on val surely falls by no more than
    export.int8_max_loss: export then makes the same files. Else the weights learn, while values are rounded, to answer
    as the run does. The same command resumes after an interruption.

    Parameters
    ----------
    run
        A path with a slash, a URI, or the name of a run under storage.root.
    always
        Train in any case.
    max_loss
        Points of top-1 that the result may lose, such as 0.3: the exit code is 4 unless the 95 % interval of the loss
        on test (else val) lies below.
    config
        A TOML file with any of the keys below: the job of the training.
    """
    changes = read_changes(config, job or {})
    if (code := _elsewhere(changes, "quantize", run, {"--always": always, "--max-loss": max_loss})) is not None:
        return code
    from ray_jobs import api
    from ray_jobs.cli.show_compress import show_phase
    from ray_jobs.compression.request import QuantizeRequest
    from ray_jobs.terminal.console import show_line

    request = QuantizeRequest(always, max_loss)
    show_phase(api.compress_quantize(run, request, changes=changes, submission=this_submission(), say=show_line))
    return None


compress.command(plan)


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
        half-latency, half-latency-int8, quarter-size, smallest-within-1pt, or a TOML file.
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


compress.command(show)


def _elsewhere(changes: Tree, phase: str, run: str, flags: Mapping[str, object]) -> int | None:
    """Submit the command where cluster.address is a Ray Jobs API; its exit code, None where it is to run here."""
    if not is_ray_jobs_address(changes.get("cluster", {}).get("address")):
        return None
    from ray_jobs.cli.jobs import run_elsewhere
    from ray_jobs.submission.command import on_compressed, words_of

    words = words_of(flags)
    return run_elsewhere(on_compressed(phase, run, words, changes))
