"""What a search stores: its identity, and a record of each trial. All other files are derived from these.

Each file holds its own SHA-256, so that a changed digit is refused by name. Those that earlier versions wrote hold none
and are taken as they are; whatever writes one again seals it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from types import NoneType
from typing import Any, Literal, Self, cast, get_args

from cluster.storage.outage import Patience, Say
from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.job.identity import difference
from ray_jobs.search.parameter import Params, Plain
from resnet_dist.errors import RunError
from resnet_dist.plain_json import plain_number, plain_numbers
from resnet_dist.sealed_json import sealed, unsealed_if_sealed

SEARCHES = "searches"
TRIALS = "trials"
SCHEMA = 1
_IDENTITY = "identity.json"

TrialState = Literal["running", "finished", "stopped", "diverged", "failed"]
"""running: begun, and to be gone on with; stopped: ended early by the scheduler."""
EndedBy = Literal["scheduler", "total_epochs", "hours", "interrupt", "workers"]
"""What ended a trial before its training did: the scheduler, since others did better, or, for the whole search at once,
a budget, Ctrl-C or SIGTERM, or that no worker group was left. Only the first says anything of the trial."""
_NUMBER = (int, float, NoneType)
_KINDS: dict[str, tuple[type, ...]] = {
    "number": (int,),
    "repeats": (int,),
    "is_default": (bool,),
    "error": (str,),
    "slot": (int, NoneType),
    "queued_s": _NUMBER,
    "started_s": _NUMBER,
    "ended_s": _NUMBER,
    "reuse": (dict, NoneType),
}
"""Of the fields that are stored as they are; the others are converted."""
Epoch = dict[str, float]
"""Validation metrics of an epoch, "epoch" among them."""


def digest_of(params: Mapping[str, Plain]) -> str:
    """A trial's name: a hash of its parameters alone, so that equal ones are one trial."""
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class TrialRecord:
    """trial.json: one sample of the search."""

    number: int
    """In the order in which they began."""
    params: Params
    is_default: bool = False
    state: TrialState = "running"
    values: tuple[float | None, ...] = ()
    """Of each objective, of the best epoch by the first; empty without one."""
    history: tuple[Epoch, ...] = ()
    slot: int | None = None
    """The worker group that trained it."""
    queued_s: float | None = None
    """Seconds since the search first began; the next two as well."""
    started_s: float | None = None
    ended_s: float | None = None
    error: str = ""
    reuse: dict[str, float] | None = None
    """Counts of shared features."""
    repeats: int = 0
    """Later suggestions of the same parameters, answered by this record."""
    ended_by: EndedBy | None = None
    """Of a stopped trial the scheduler; of a running one what ended the search before it, absent while it trains."""

    @property
    def digest(self) -> str:
        """The trial's name."""
        return digest_of(self.params)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state != "running"

    @property
    def standing(self) -> str:
        """The state for people, with what ended the trial."""
        if self.ended_by is None:
            return self.state
        return f"{'unfinished' if self.state == 'running' else self.state} ({self.ended_by})"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema": SCHEMA,
            **asdict(self),
            "values": [None if value is None else plain_number(value) for value in self.values],
            "history": [plain_numbers(epoch) for epoch in self.history],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From what `to_json` made; raises ValueError, KeyError or TypeError for anything else."""
        fields = dict(value)
        if fields.pop("schema") != SCHEMA or fields["state"] not in get_args(TrialState):
            raise ValueError("it is of another version")
        if fields.get("ended_by") not in (None, *get_args(EndedBy)):
            raise ValueError(f"ended_by={fields['ended_by']!r} is none of {', '.join(get_args(EndedBy))}")
        for name, kind in _KINDS.items():
            if name in fields and type(fields[name]) not in kind:
                raise TypeError(f"{name}={fields[name]!r} is none")
        fields["params"] = {name: _tuples(each) for name, each in fields["params"].items()}
        fields["values"] = tuple(None if each is None else float(each) for each in fields["values"])
        fields["history"] = tuple({name: float(each) for name, each in epoch.items()} for epoch in fields["history"])
        return cls(**fields)


class SearchDirectory:
    """The files of one search under `storage.root`: searches/<name>/."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def named(cls, storage_root: str, name: str) -> "SearchDirectory":
        """The search of that name."""
        return cls(Store.open(storage_root).child(f"{SEARCHES}/{name}"))

    def at_start(self, outage_s: float, say: Say) -> "SearchDirectory":
        """The same search for a command that begins: only storage that answers that it is busy is waited for."""
        return SearchDirectory(self.store.patient(Patience.at_start(outage_s, say)))

    def waiting(self, outage_s: float, say: Say, confirm: Callable[[], None]) -> "SearchDirectory":
        """The same search, begun, with storage that is waited for while it is away.

        `confirm` raises RunHeldError where another process has taken the search over meanwhile.
        """
        return SearchDirectory(self.store.settled().patient(Patience(outage_s, say, confirm)))

    @property
    def uri(self) -> str:
        """Where the search is."""
        return self.store.uri

    def trial(self, digest: str) -> Store:
        """A trial's folder, in the layout of a run."""
        return self.store.child(f"{TRIALS}/{digest}")

    def claim(self, identity: dict[str, Any], now: float) -> float:
        """Make the search this one, or find that it is; when it first began, seconds since 1970.

        Raises ConfigError with the difference when the name belongs to another search.
        """
        data = self.store.read_or_none(_IDENTITY)
        if data is not None:
            known, began = self._identity(data)
            changes = difference(known, cast("dict[str, Any]", json.loads(json.dumps(identity))))
            if changes:
                raise ConfigError(
                    f"{self.uri} is another search; choose another --name or go back:\n" + "\n".join(changes)
                )
            return began
        self.write_sealed(_IDENTITY, {"schema": SCHEMA, "began": now, "identity": identity})
        return now

    def began(self) -> float | None:
        """When it first began, seconds since 1970; None where it has not. Raises RunError for a damaged record."""
        data = self.store.read_or_none(_IDENTITY)
        return None if data is None else self._identity(data)[1]

    def read_trials(self) -> list[TrialRecord]:
        """Every trial's record, in the order in which they began. Raises RunError for a damaged one."""
        found: list[TrialRecord] = []
        for digest in self.store.list(TRIALS):
            path = f"{TRIALS}/{digest}/trial.json"
            data = self.store.read_or_none(path)
            if data is None:
                continue
            try:
                record = TrialRecord.from_json(unsealed_if_sealed(data))
                if record.digest != digest:
                    raise ValueError(f"its parameters are those of {record.digest}")
                found.append(record)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                raise RunError(
                    f"{self.uri}/{path} is damaged ({error}); delete {TRIALS}/{digest} to train it anew"
                ) from error
        return sorted(found, key=lambda record: record.number)

    def write_trial(self, record: TrialRecord) -> None:
        """Create or replace a trial's record."""
        self.write_sealed(f"{TRIALS}/{record.digest}/trial.json", record.to_json())

    def drop_checkpoints(self, digest: str) -> None:
        """Remove what a losing trial has stored besides its records."""
        self.store.delete(f"{TRIALS}/{digest}/checkpoints")

    def _identity(self, data: bytes) -> tuple[dict[str, Any], float]:
        """What the search is, and when it first began."""
        try:
            stored = unsealed_if_sealed(data)
            known, began = stored.get("identity"), stored.get("began")
            if not isinstance(known, dict) or not isinstance(began, int | float):
                raise ValueError("it has no identity or no time")
            return cast("dict[str, Any]", known), float(began)
        except (ValueError, OverflowError) as error:
            raise RunError(
                f"{self.uri}/{_IDENTITY} is damaged ({error}); restore it, or choose another --name"
            ) from error

    def write_sealed(self, path: str, value: dict[str, Any]) -> None:
        """Create or replace a JSON file that holds its own SHA-256."""
        self.store.write(path, sealed(value))


def repeated(record: TrialRecord) -> TrialRecord:
    """The record once its parameters were suggested again."""
    return replace(record, repeats=record.repeats + 1)


def _tuples(value: Any) -> Plain:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value
