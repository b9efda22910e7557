"""Which runs a compressed run came from."""

from dataclasses import dataclass

from ray_jobs.run.compression_record import Ancestor, CompressionRecord, read_record
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.teacher_run import run_digest
from resnet_dist.errors import RunError

_MOST = 50
"""Ancestors: more are a circle."""


@dataclass(frozen=True)
class Descendant:
    """A run, and how it came from the one before it."""

    run: RunDirectory
    phase: str
    """train, distill, prune or quantize."""
    record: CompressionRecord | None
    """None of a run that was trained, or that only has a teacher."""


def lineage(run: RunDirectory) -> list[Descendant]:
    """The run and those that it came from, the oldest first.

    Raises RunError where one is gone or has other weights than it had, or for a circle.
    """
    found: list[Descendant] = []
    current = run
    while True:
        record, teacher = read_record(current), teacher_of(current)
        phase = record.phase if record is not None else "distill" if teacher else "train"
        found.append(Descendant(current, phase, record))
        parent = record.parent if record is not None else teacher
        if parent is None:
            return found[::-1]
        if len(found) == _MOST:
            raise RunError(
                f"{run.uri} has more than {_MOST} ancestors, so they form a circle; see its compression.json"
            )
        current = ancestor_of(current, parent)


def teacher_of(run: RunDirectory) -> Ancestor | None:
    """Whom a run learnt from; None of one that had no teacher."""
    learnt = run.read_config().distillation
    return None if learnt.teacher is None else Ancestor(learnt.teacher, learnt.teacher_digest or "")


def ancestor_of(run: RunDirectory, ancestor: Ancestor) -> RunDirectory:
    """The run that another one was made from: a bare name is one of the storage root that `run` lies under.

    Raises RunError where it is gone, or has other weights than it had.
    """
    try:
        found = RunDirectory.find(ancestor.run, run.storage_root or run.read_config().storage.root)
    except RunError as error:
        raise RunError(f"{run.uri} was made from {ancestor.run}: {error}; restore it") from error
    digest = run_digest(found)
    if digest != ancestor.digest:
        raise RunError(
            f"{run.uri} was made from {ancestor.run} with the digest {ancestor.digest}, and {found.uri} has {digest}: "
            "it was trained further, or is another run; restore the one that it was"
        )
    return found
