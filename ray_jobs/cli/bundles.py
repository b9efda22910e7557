"""The commands that make bundles and move them: export, benchmark, promote, pull. `predict` starts by itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ray_jobs.cli.flags import StorageFlags, job_flags
from ray_jobs.cli.program import COMMAND, File, Number, Switch, Text, Word
from ray_jobs.errors import ConfigError
from ray_jobs.job.toml import read_job, read_job_and_overrides
from ray_jobs.job.toml_codec import merged
from ray_jobs.job.verb_fields import of_export

if TYPE_CHECKING:
    from resnet_dist.export.benchmarking.speed_gate import SpeedGate

    ExportFlags = dict[str, Any]
else:
    ExportFlags = job_flags(of_export)


def export(
    run: Word,
    /,
    *,
    formats: Text = None,
    checkpoint: Word = "best",
    output: File = None,
    config: File = None,
    job: Annotated[ExportFlags, Parameter("*")] | None = None,
) -> None:
    """Turn a run into a bundle: formats for production, each compared with the trained model.

    A format that differs by more than its precision allows, or misses a recall that was asked for, is left out of the
    bundle, and the exit code is 4.

    Parameters
    ----------
    run
        A path with a slash, a URI, or the name of a run under storage.root.
    formats
        Names separated by commas; by default all that this machine can build. Overrides export.formats.
    checkpoint
        best, last, or the number of a step.
    output
        The bundle's folder; by default bundle/ in the run.
    config
        A job's TOML file: its [export] and the place of its data and storage apply.
    """
    flags = job or {}
    if formats is not None:
        flags = merged(flags, {"export": {"formats": _names_of(formats)}})
    _, changes = read_job_and_overrides(config, flags, of_export)
    from ray_jobs import api
    from ray_jobs.cli.show_bundles import show_export
    from ray_jobs.terminal.console import show_line

    show_export(api.export(run, checkpoint=checkpoint, changes=changes, output=output, say=show_line))


def benchmark(
    bundle: Word,
    /,
    *,
    formats: Text = None,
    threads: Text = None,
    batch_sizes: Word = "1,2,4,8,16,32,64",
    seconds: Number = 5.0,
    run: Text = None,
    fail_under: Annotated[
        tuple[str, ...],
        Parameter(
            group=COMMAND,
            show_default=False,
            negative=(),
            help="FORMAT=RATIO (to PyTorch, with one image) or FORMAT=NUMBERips (images per second, with the best "
            "batch), on the most threads: the exit code is 4 if a format is slower. May be repeated.",
        ),
    ] = (),
    json: File = None,
    job: Annotated[StorageFlags, Parameter("*")] | None = None,
) -> None:
    """Measure how fast a bundle's formats are on this machine, with one image and with the best batch, beside PyTorch.

    Each format runs in its own process, and the processes take turns, so that other load affects all alike.

    Parameters
    ----------
    bundle
        A bundle's folder or a run's folder, as a path with a slash, or the name of a run under storage.root.
    formats
        Names separated by commas; by default all but those that can hold code (TorchScript, torch.export).
    threads
        Numbers of threads, separated by commas; by default 1 and all cores.
    batch_sizes
        Candidates for the best batch size, separated by commas.
    seconds
        Seconds for which each format is timed with one image, and again with its best batch.
    run
        The run that the bundle was made of, if the bundle is elsewhere: PyTorch runs its network.
    json
        Write all numbers to this file.
    """
    resolved = read_job(None, job or {})
    from ray_jobs import api
    from ray_jobs.bundles.benchmark import BenchmarkOptions, check_json, write_json
    from ray_jobs.cli.show_benchmark import show_benchmark
    from ray_jobs.terminal.console import show_line

    options = BenchmarkOptions(
        formats=_names_of(formats),
        threads=_numbers_of("threads", threads),
        batch_sizes=_numbers_of("batch-sizes", batch_sizes),
        seconds=seconds,
        gates=_gates_of(fail_under),
    )
    if json is not None:
        check_json(json)
    outcome = api.benchmark(bundle, options, run=run, storage_root=resolved.storage.root, say=show_line)
    if json is not None:
        write_json(json, outcome)
    show_benchmark(outcome)


def promote(
    run: Word,
    /,
    *,
    name: Annotated[str | None, Parameter(name="--as", group=COMMAND, show_default=False)] = None,
    accept_inconclusive: Switch = False,
    rollback: Switch = False,
    job: Annotated[StorageFlags, Parameter("*")] | None = None,
) -> None:
    """Make a run's bundle the production bundle of its name: verify it, copy it, then point at it.

    Parameters
    ----------
    run
        A path with a slash, a URI, or the name of a run under storage.root; with --rollback the name of the bundle in
        production.
    name
        The name by which production machines pull it; by default the run's name.
    accept_inconclusive
        Promote also int8 formats for which val has too few images to tell whether they lose too much; by default they
        are left out.
    rollback
        Return to the bundle that was in production before; a second time, to the later one.
    """
    root = read_job(None, job or {}).storage.root
    from ray_jobs import api
    from ray_jobs.cli.show_bundles import show_promotion

    if rollback:
        show_promotion(api.rollback(name or run, storage_root=root))
    else:
        show_promotion(api.promote(run, name=name, storage_root=root, accept_inconclusive=accept_inconclusive))


def pull(
    name: Word,
    /,
    *,
    to: Annotated[Path, Parameter(group=COMMAND)],
    verify_key: File = None,
    job: Annotated[StorageFlags, Parameter("*")] | None = None,
) -> None:
    """Fetch a bundle and verify every file; the folder is complete or absent at any time.

    Parameters
    ----------
    name
        A production bundle under storage.root, as NAME or NAME@DIGEST; or the path or URI of a bundle or a run.
    to
        The folder. The same bundle there stays; another one is replaced in one step.
    verify_key
        A public key (PEM file); the bundle must be signed by its private key.
    """
    root = read_job(None, job or {}).storage.root
    from ray_jobs import api
    from ray_jobs.cli.show_bundles import show_pull

    show_pull(api.pull(name, to, storage_root=root, verify_key=verify_key))


def _names_of(text: str | None) -> tuple[str, ...]:
    """Names with commas between them."""
    return () if text is None else tuple(name.strip() for name in text.split(","))


def _numbers_of(flag: str, text: str | None) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    try:
        return () if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--{flag} {text}: give whole numbers with commas between them, such as 1,2") from error


def _gates_of(texts: Sequence[str]) -> "tuple[SpeedGate, ...]":
    """Gates, in one text with commas between them or in several."""
    from resnet_dist.export.benchmarking.speed_gate import SpeedGate

    try:
        return tuple(SpeedGate.parse(part) for text in texts for part in text.split(","))
    except ValueError as error:
        raise ConfigError(str(error)) from error
