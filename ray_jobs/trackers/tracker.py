"""What a tracker is, what it learns of a run, and how its optional package is imported."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

ExitState = Literal["finished", "stopped", "failed"]
"""Stopped: by Ctrl-C or from outside, with a last checkpoint; the same command goes on."""
Plain = str | int | float | bool | None


class TrackerError(Exception):
    """A tracker cannot be used. Its message says why and what to do; training goes on without it."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker learns of a run when it starts."""

    name: str
    id: str
    """The same for every start of this run, and for no other: not even for one trained anew in its place."""
    project: str
    group: str
    tags: tuple[str, ...]
    config: Mapping[str, Plain]
    """The resolved job by dotted key."""
    resumed_step: int | None
    """The step that training goes on from: later ones are logged again. None for a run from its start."""
    folder: Path
    """For the tracker's own files: in the run directory where that is a folder of this machine, else scratch."""
    place: str
    """Where people find those files: a path or URI in the run directory."""
    upload: Callable[[str, bytes], None] | None
    """Stores a file, by its path below `folder`, at `place`; None where `folder` is that place."""


class Tracker(Protocol):
    """Shows a run elsewhere. Every method may raise, or never return: `GuardedTracker` stands between it and a run."""

    @property
    def link(self) -> str:
        """URL or path where a person finds the run, known after `start`."""
        ...

    def start(self) -> str | None:
        """Begin, or go on with, the run; a line for people where there is something to say."""
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step; an epoch's validation comes with the epoch's last step."""
        ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Plain]]) -> None:
        """Show a table."""
        ...

    def epoch_done(self) -> None:
        """Make durable what was logged so far."""
        ...

    def finish(self, state: ExitState) -> None:
        """Send what is left and say how the run ended."""
        ...


def optional_module(name: str, extra: str) -> Any:
    """A module of an optional package. Raises TrackerError that says what to install where it is missing."""
    package = name.partition(".")[0]
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise TrackerError(f"{package} is not installed: pip install 'resnet-dist[{extra}]'") from error


def upload_folder(run: TrackedRun, pattern: str) -> None:
    """Store the files below the run's scratch folder that match; nothing where the folder is the run's own."""
    if run.upload is None:
        return
    for path in sorted(run.folder.rglob(pattern)):
        if path.is_file() and not path.is_symlink():
            run.upload(path.relative_to(run.folder).as_posix(), path.read_bytes())
