"""Which runs a compressed run came from."""

from dataclasses import dataclass

from ray_jobs.run.compression_record import CompressionRecord, read_record
from ray_jobs.run.directory import RUNS, RunDirectory
from resnet_dist.errors import RunError

_MOST = 50
"""Ancestors: more are a circle."""


@dataclass(frozen=True)
class Descendant:
    """A run, and how it came from the one before it."""

    run: RunDirectory
    phase: str
    """train, distill or prune."""
    record: CompressionRecord | None
    """None of a run that was trained, or that only has a teacher."""


def lineage(run: RunDirectory) -> list[Descendant]:
    """The run and those that it came from, the oldest first. Raises RunError where one is gone, or for a circle."""
    found: list[Descendant] = []
    current = run
    while True:
        record, teacher = read_record(current), current.read_config().distillation.teacher
        phase = record.phase if record is not None else "distill" if teacher else "train"
        found.append(Descendant(current, phase, record))
        parent = record.parent.run if record is not None else teacher
        if parent is None:
            return found[::-1]
        if len(found) == _MOST:
            raise RunError(
                f"{run.uri} has more than {_MOST} ancestors, so they form a circle; see its compression.json"
            )
        current = RunDirectory.find(parent, storage_root_of(current))


def storage_root_of(run: RunDirectory) -> str:
    """The storage root that a run lies under, by its URI; its own config may be of another machine."""
    place, mark, query = run.uri.partition("?")
    return place.rpartition(f"/{RUNS}/")[0] + mark + query
