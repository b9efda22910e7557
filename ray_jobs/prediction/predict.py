"""`resnet-dist predict`: a bundle's answers to images, on this machine. Needs no torch."""

import os
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import BinaryIO

from cluster.errors import StorageError
from cluster.storage.outage import Patience
from data_pipeline.errors import DataError
from ray_jobs.errors import ConfigError
from ray_jobs.prediction.image_paths import check_paths, image_paths
from ray_jobs.prediction.rows import OutputFormat, printable, row_writer
from ray_jobs.prediction.tally import Tally
from ray_jobs.terminal.output_file import output_file
from ray_jobs.terminal.watcher import note
from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.model_contract import MOST_IMAGES
from resnet_dist.runtime.predictor import Prediction, Predictor
from resnet_dist.runtime.providers import PROVIDERS, Provider
from resnet_dist.runtime.time_limit import BATCH_TIMEOUT_S

STDOUT = "-"
_FEW_IMAGES = 50
"""A table is for so many at most."""
_DAY_S = 86_400.0
_NAMED = 20
"""Unreadable images that are named on stderr; all are in the output."""


@dataclass(frozen=True)
class PredictOptions:
    """How a bundle is used."""

    format_name: str | None = None
    """The bundle's format; None: its first choice."""
    threads: int | None = None
    """None: all cores."""
    batch_size: int = 8
    public_key: Path | None = None
    """A PEM file; the bundle must be signed by its other half."""
    output_format: OutputFormat | None = None
    """None: a table on a terminal for few images, else CSV."""
    probabilities: bool = False
    """Of all classes."""
    fail_on_unreadable: bool = False
    providers: tuple[Provider, ...] | None = None
    """What an ONNX format may run on, in the order in which they are tried; None: what ONNX Runtime knows here."""
    batch_timeout_s: float = BATCH_TIMEOUT_S
    """The model may take so long to load, and for a batch."""
    outage_s: float = 900.0
    """The storage of the output may be away for so long: a file's when it is written, at the end, parts' always."""

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads {self.threads} must be at least 1; leave it out for all cores")
        if not 1 <= self.batch_size <= MOST_IMAGES:
            raise ConfigError(f"--batch-size {self.batch_size} must lie in 1..{MOST_IMAGES}; 8 suits most machines")
        if self.providers is not None and (
            not self.providers
            or len(set(self.providers)) < len(self.providers)
            or not {*self.providers} <= {*PROVIDERS}
        ):
            raise ConfigError(
                f"--providers {','.join(self.providers)} must name some of {', '.join(PROVIDERS)}, each once, in the "
                "order in which they are tried"
            )
        if not 0.0 < self.batch_timeout_s <= _DAY_S:
            raise ConfigError(
                f"--batch-timeout-s {self.batch_timeout_s:g} must be above 0, and at most a day, {_DAY_S:g}; "
                f"{BATCH_TIMEOUT_S:g} suits most machines"
            )


def run_predict(place: Path, paths: Iterable[str], options: PredictOptions, output: str = STDOUT) -> Tally:
    """Write the answer to each image of `paths` to `output`, a file or STDOUT; what is worth saying goes to stderr.

    `paths` are files, folders, patterns, or "-" for a list on stdin. An image that cannot be read is an answer too.
    Raises BundleError, RuntimeMissingError, StorageError; DataError for a path that is not there, where no image could
    be read, or any could not and `fail_on_unreadable`.
    """
    paths = list(paths)
    check_paths(paths)
    predictor = predictor_of(Bundle.open(place, options.public_key), options)
    listed = image_paths(paths, sys.stdin.buffer)
    kind = options.output_format
    if kind is None:
        first = list(islice(listed, _FEW_IMAGES + 1)) if output == STDOUT and sys.stdout.isatty() else []
        kind = "table" if 0 < len(first) <= _FEW_IMAGES else "csv"
        listed = chain(first, listed)
    tally, begin = Tally(), perf_counter()
    try:
        with _output(output, options.outage_s) as stream:
            for path, answer in write_rows(stream, kind, predictor, listed, options):
                tally.count(answer)
                if answer.error is not None:
                    _say_unreadable(path, answer.error, tally.unreadable)
    except BrokenPipeError:
        _leave_quietly()
        return tally
    note(tally.summary(perf_counter() - begin))
    note(f"answered by {predictor.runs_on}")
    judge(tally, options.fail_on_unreadable)
    return tally


def predictions(
    place: Path, paths: Iterable[str], options: PredictOptions = PredictOptions()
) -> Iterator[tuple[str, Prediction]]:
    """Each image's path with the bundle's answer, in order. Raises what `run_predict` raises before it begins."""
    paths = list(paths)
    check_paths(paths)
    predictor = predictor_of(Bundle.open(place, options.public_key), options)
    return answers(predictor, image_paths(paths, sys.stdin.buffer), options.batch_size)


def predictor_of(bundle: Bundle, options: PredictOptions) -> Predictor:
    """The bundle's format, loaded as the options say. Raises BundleError and RuntimeMissingError."""
    return Predictor.of(bundle, options.format_name, options.threads, options.batch_timeout_s, options.providers)


def answers(
    predictor: Predictor, paths: Iterable[str], batch_size: int, base: str = ""
) -> Iterator[tuple[str, Prediction]]:
    """Each path with its answer, in order. Relative paths are below `base`, by default the working directory."""
    return predictor.stream(((path, Path(base, path)) for path in paths), batch_size)


def write_rows(
    stream: BinaryIO,
    kind: OutputFormat,
    predictor: Predictor,
    paths: Iterable[str],
    options: PredictOptions,
    base: str = "",
) -> Iterator[tuple[str, Prediction]]:
    """Write each path's row to `stream`, and give path and answer; all is written when it ends."""
    text = TextIOWrapper(stream, "utf-8", "backslashreplace", newline="")
    try:
        write = row_writer(kind, predictor.classes, options.probabilities, text)
        for path, answer in answers(predictor, paths, options.batch_size, base):
            write(path, answer)
            yield path, answer
    finally:
        text.detach()  # writes what is left, and leaves the stream open


def judge(tally: Tally, fail_on_unreadable: bool) -> None:
    """Raise DataError for what a caller must not take for answers."""
    if not tally.images:
        raise DataError("there is no image among the paths; give files, or folders that hold images")
    if not tally.read:
        raise DataError(
            f"none of {tally.images} images could be answered; the output says why: repair them, or correct the paths"
        )
    if fail_on_unreadable and tally.unreadable:
        raise DataError(
            f"{tally.unreadable} of {tally.images} images could not be answered; the output says why, and all others "
            "are answered there: repair them, or remove --fail-on-unreadable"
        )


def _say_unreadable(path: str, reason: str, number: int) -> None:
    if number <= _NAMED:
        note(f"unreadable: {printable(path)}: {printable(reason)}")
    if number == _NAMED:
        note("unreadable images from here on are only counted; the output names them all")


@contextmanager
def _output(output: str, outage_s: float) -> Generator[BinaryIO]:
    # Closing fails once more where writing did.
    patience = Patience(outage_s, note)
    with _explained(output), output_file(Path(output), patience) if output != STDOUT else _stdout() as stream:
        yield stream


@contextmanager
def _stdout() -> Generator[BinaryIO]:
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


@contextmanager
def _explained(output: str) -> Generator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        is_file = output != STDOUT and (Path(output).is_file() or not Path(output).exists())
        where = f"there, and in {tempfile.gettempdir()}" if is_file else "there"
        raise StorageError(f"--output {output} could not be written ({error.strerror}); free space {where}") from error


def _leave_quietly() -> None:
    """Whoever read the output has seen enough. What Python would still flush at its end goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
