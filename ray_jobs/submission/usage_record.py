"""How long a submitted command ran and on how many devices, in the logs/ of its run: it outlives the job's objects.

logs/usage-<submission>-<attempt>.json is written when an attempt begins, about once a minute while it runs, and when it
ends. Where its pod was killed, the last of these times is its end.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cluster.jobs import HeldGpus
from cluster.storage.store import Store

SCHEMA = 1
_FILE = re.compile(r"usage-[A-Za-z0-9-]{1,64}-\d{1,6}\.json")
_MOST = 64 * 1024


@dataclass(frozen=True)
class UsageRecord:
    """An attempt of a submission."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    held: HeldGpus
    began: datetime
    """UTC; the next as well."""
    seen: datetime
    """When it ended, or ran for the last time that is known."""
    has_ended: bool
    schema: Literal[1] = SCHEMA


_RECORD = TypeAdapter(UsageRecord)
_HELD_GPUS = TypeAdapter(HeldGpus)


def held_gpus_of(text: str) -> HeldGpus | None:
    """What a job's environment names; None for a text that is none, as in jobs without a queue or GPUs."""
    try:
        return _HELD_GPUS.validate_json(text, strict=True)
    except ValidationError:
        return None


class UsageLog:
    """The record of one attempt."""

    def __init__(self, run: Store, submission: str, held: HeldGpus, attempt: int) -> None:
        self._run, self._held = run, held
        self._path = f"logs/usage-{submission}-{attempt}.json"
        self._began = _now()

    def write(self, *, has_ended: bool = False) -> None:
        """Store that it runs or has ended now. Raises StorageError."""
        record = {
            "schema": SCHEMA,
            "held": asdict(self._held),
            "began": self._began.isoformat(),
            "seen": _now().isoformat(),
            "has_ended": has_ended,
        }
        self._run.write(self._path, (json.dumps(record, indent=2) + "\n").encode())


def read_usage(run: Store) -> Iterator[UsageRecord | None]:
    """All records of a run; None for each that is damaged or of another version. Raises StorageError."""
    for name in run.list("logs"):
        if _FILE.fullmatch(name):
            data = run.read_or_none(f"logs/{name}", _MOST)
            try:
                record = None if data is None else _RECORD.validate_json(data)
            except ValidationError:
                record = None
            yield record if record is None or _has_zone(record) else None


def _has_zone(record: UsageRecord) -> bool:
    return record.began.tzinfo is not None and record.seen.tzinfo is not None


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
