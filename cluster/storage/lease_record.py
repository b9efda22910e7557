"""What lease.json holds: who holds a run, and every claim there was. It has its own SHA-256."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Self

from cluster.storage.process_identity import ProcessIdentity

SCHEMA = 1

Claim = tuple[int, str]
"""A generation and its token."""


@dataclass(frozen=True)
class LeaseRecord:
    """What lease.json holds."""

    generation: int
    token: str
    heartbeat: int
    ttl_s: float
    """Seconds of silence that the holder may be allowed."""
    holder: ProcessIdentity
    driver: ProcessIdentity
    submission: str
    since: str
    """When it was taken, UTC, ISO 8601: for people only, clocks differ."""
    released: bool
    history: tuple[Claim, ...]
    """Every claim there was, this one last."""

    @property
    def claim(self) -> Claim:
        """The holder's."""
        return self.generation, self.token

    def to_bytes(self) -> bytes:
        """The file."""
        value: dict[str, Any] = {
            "schema": SCHEMA,
            "generation": self.generation,
            "token": self.token,
            "heartbeat": self.heartbeat,
            "ttl_s": self.ttl_s,
            "holder": self.holder.to_json(),
            "driver": self.driver.to_json(),
            "submission": self.submission,
            "since": self.since,
            "released": self.released,
            "history": [list(claim) for claim in self.history],
        }
        return _sealed(value)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """From what `to_bytes` made; raises ValueError, KeyError, TypeError, AttributeError, OverflowError or
        RecursionError for anything else."""
        value: dict[str, Any] = json.loads(data)
        if _sealed({key: item for key, item in value.items() if key != "sha256"}) != data:
            raise ValueError("its own hash does not fit")
        if value["schema"] != SCHEMA:
            raise ValueError(f"it is of version {value['schema']}, this program reads {SCHEMA}")
        record = cls(
            generation=int(value["generation"]),
            token=str(value["token"]),
            heartbeat=int(value["heartbeat"]),
            ttl_s=float(value["ttl_s"]),
            holder=ProcessIdentity.from_json(value["holder"]),
            driver=ProcessIdentity.from_json(value["driver"]),
            submission=str(value["submission"]),
            since=str(value["since"]),
            released=bool(value["released"]),
            history=tuple((int(generation), str(token)) for generation, token in value["history"]),
        )
        if record.history[-1:] != (record.claim,):
            raise ValueError("its history does not end with its holder")
        return record


def holder_of(record: LeaseRecord) -> str:
    """For people: who holds the lease, and since when."""
    return (
        f"pid {record.holder.pid} on {record.holder.host} since {record.since}, driver pid {record.driver.pid} on "
        f"{record.driver.host}, generation {record.generation}"
    )


def _sealed(value: dict[str, Any]) -> bytes:
    """A lease's file: with the SHA-256 of itself, since one changed digit in its history would disown checkpoints."""
    digest = hashlib.sha256(json.dumps(value).encode()).hexdigest()
    return (json.dumps({**value, "sha256": digest}, indent=2) + "\n").encode()
