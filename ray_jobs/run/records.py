"""The records of a run and their seal: each is read as it was written, or refused by name.

config.toml, dataset.json, split.csv and preprocess.json are the records: they say what the run is, and commands go by
them. records.json seals them. It has the SHA-256 of each, the run's identity, and its own SHA-256. The manifest of each
checkpoint repeats the identity and names the SHA-256 of records.json, so a run stays the one it is when records.json or
config.toml are lost.

The identity never changes. A start may replace records, since it may change where, how and how long the run trains.
Then records.json first has both digests of a record that is replaced, then the records are written, then records.json
has the new digests alone. So whoever reads meanwhile finds what fits, also for ever after a kill.

No records: status.json, lease.json, logs, metrics and checkpoints change while the run trains (checkpoints have
manifests, metrics name their writer, the lease has a seal of its own). result.json and evaluation/ are results: no
command goes by them, and `train` and `evaluate` make them anew.

The seal finds accidents. Whoever may write to storage can seal anything.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast

from cluster.storage.store import Store
from ray_jobs.job.identity import completed, difference
from resnet_dist.checkpoint.manifest import Origin
from resnet_dist.errors import RunError
from resnet_dist.sealed_json import sealed, unsealed

SCHEMA = 1
SEAL = "records.json"
CONFIG, DATASET, SPLIT, PREPROCESS = "config.toml", "dataset.json", "split.csv", "preprocess.json"
RECORDS = (DATASET, SPLIT, PREPROCESS, CONFIG)
"""In the order in which they are written: with config.toml the run exists."""
REMEDY = "restore it, or start the command that trained the run again: it makes the records anew from job and data"
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seal:
    """What records.json says."""

    identity: dict[str, Any]
    """The run's, by dotted name with plain values, as the version that wrote it knew them."""
    digests: dict[str, str]
    """SHA-256 by the name of a record."""
    replaced: dict[str, str] = field(default_factory=dict[str, str])
    """SHA-256 of records that a start is replacing, or was when it was killed."""

    def fits(self, name: str, data: bytes) -> bool:
        """Whether a record is as it was written."""
        return _digest(data) in (self.digests.get(name), self.replaced.get(name))

    def to_bytes(self) -> bytes:
        """The file."""
        replaced = {"replaced": self.replaced} if self.replaced else {}
        return sealed({"schema": SCHEMA, "identity": self.identity, "records": self.digests, **replaced})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """From what `to_bytes` made. Raises ValueError for anything else."""
        value = unsealed(data)
        if value.get("schema") != SCHEMA:
            raise ValueError(f"it is of version {value.get('schema')!r}, this program reads {SCHEMA}")
        identity = value.get("identity")
        if not isinstance(identity, dict):
            raise ValueError("it has no identity")
        return cls(
            cast("dict[str, Any]", identity), _digests(value.get("records")), _digests(value.get("replaced", {}))
        )


class Records:
    """The records of one run in storage."""

    def __init__(self, store: Store, newest_origin: Callable[[], Origin | None]) -> None:
        """`newest_origin`: what the run's newest checkpoint says it was trained as; None where none says anything."""
        self._store = store
        self._newest_origin = newest_origin
        self.has_warned = False
        """Whether a person knows that the records are not sealed."""

    def read(self, name: str) -> bytes:
        """A record as it was written; of a run of before records were sealed, as it is.

        Raises RunError where it is missing, or not as it was sealed.
        """
        data, seal = self._read(name), self.seal()
        if seal is not None and not seal.fits(name, data):  # or a start has replaced it just now
            data, seal = self._read(name), self.seal()
        if seal is None or seal.fits(name, data):
            return data
        raise RunError(
            f"{self._store.uri}/{name} is not as it was sealed: its SHA-256 begins with {_digest(data)[:12]}, "
            f"{SEAL} says {seal.digests.get(name, 'nothing')[:12]}; {REMEDY}"
        )

    def seal(self) -> Seal | None:
        """The run's seal; None of a run of before records were sealed, which a warning says once.

        Raises RunError where it is damaged, or lost: checkpoints name it.
        """
        found = self._stored()
        if found is None and self._newest_origin() is not None:
            raise RunError(f"{self._store.uri} has no {SEAL}, which its checkpoints name; {REMEDY}")
        if found is None and not self.has_warned:
            self.has_warned = True
            _LOGGER.warning(
                "%s has no %s: an earlier version began the run, and whether its records have changed since cannot be "
                "told; its next start seals them",
                self._store.uri,
                SEAL,
            )
        return found

    def origin(self) -> Origin | None:
        """What the manifest of a checkpoint says that is written now; None of a run whose records are not sealed."""
        seal = self.seal()
        return None if seal is None else Origin(_digest(seal.to_bytes()), seal.identity)

    def check_origin(self, checkpoint: str, origin: Origin | None) -> None:
        """Raise RunError where a checkpoint was trained as another run than the records are of."""
        seal = None if origin is None else self.seal()
        if seal is None or origin is None:
            return
        if changes := difference(completed(origin.identity), completed(seal.identity)):
            listed = "\n".join(changes)
            raise RunError(f"{self._store.uri}/{SEAL} is of another run than {checkpoint} there; {REMEDY}:\n{listed}")

    def identity(self) -> dict[str, Any] | None:
        """As the newest checkpoint says, else as records.json says; None where neither can tell."""
        origin = self._newest_origin()
        if origin is not None:
            return completed(origin.identity)
        try:
            seal = self._stored()
        except RunError:
            return None
        return None if seal is None else completed(seal.identity)

    def are_whole(self) -> bool:
        """Whether every record is there, sealed, and as it was sealed."""
        try:
            seal = self._stored()
        except RunError:
            return False
        stored = {name: self._store.read_or_none(name) for name in RECORDS}
        return seal is not None and all(data is not None and seal.fits(name, data) for name, data in stored.items())

    def write(self, records: Mapping[str, bytes], identity: dict[str, Any]) -> None:
        """Create the records, or replace those that differ, in the order that the module describes."""
        before, is_lost = self._before()
        replaced = dict[str, str]()
        stored = {name: self._store.read_or_none(name) for name in RECORDS}
        for name, data in stored.items():
            if data == records[name]:
                continue
            if data is not None and not is_lost and (before is None or before.fits(name, data)):
                replaced[name] = _digest(data)
            elif data is not None or before is not None:
                _LOGGER.warning("%s/%s was missing or changed: it is made anew", self._store.uri, name)
        if before is None and not is_lost and any(data is not None for data in stored.values()):
            _LOGGER.warning(
                "%s was begun by an earlier version, which did not seal records: this start does, as its job and data "
                "have them",
                self._store.uri,
            )
        after = Seal(identity, {name: _digest(records[name]) for name in RECORDS})
        during = Seal(identity, after.digests, replaced)
        if before != during:
            self._store.write(SEAL, during.to_bytes())
        for name in RECORDS:
            if stored[name] != records[name]:
                self._store.write(name, records[name])
        if replaced:
            self._store.write(SEAL, after.to_bytes())

    def _read(self, name: str) -> bytes:
        data = self._store.read_or_none(name)
        if data is None:
            raise RunError(f"{self._store.uri} has no {name}; {REMEDY}")
        return data

    def _before(self) -> tuple[Seal | None, bool]:
        """The seal of an earlier start, and whether there was one that cannot be read any more."""
        try:
            seal = self._stored()
        except RunError as error:
            _LOGGER.warning("%s", error)
            return None, True
        return seal, seal is None and self._newest_origin() is not None

    def _stored(self) -> Seal | None:
        data = self._store.read_or_none(SEAL)
        try:
            return None if data is None else Seal.from_bytes(data)
        except ValueError as error:
            raise RunError(f"{self._store.uri}/{SEAL} cannot be used: {error}; {REMEDY}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digests(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("it has no digests")
    return {str(name): str(digest) for name, digest in cast("dict[object, object]", value).items()}
