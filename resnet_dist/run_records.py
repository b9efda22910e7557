"""Records of a run besides its checkpoints: metrics in parts, and the status that programs poll.

Object stores cannot append, so metrics are parts that are written once. A part names its writer's claim,
and only parts whose claim is in the lease's history are read. It holds its own SHA-256; parts of earlier versions hold
none. JSON has no NaN or infinity: such numbers are stored as the texts "nan", "inf" and "-inf".
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from resnet_dist.checkpoint.store import CheckpointStore, Claim
from resnet_dist.errors import RunError
from resnet_dist.plain_json import plain_numbers

SCHEMA = 1
_FOLDER = "metrics"
_VALIDATED = "val/loss"
"""In each record of a validation, and in no other."""
_PART = re.compile(r"part-\d+-\d+\.jsonl")
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)

Record = dict[str, float]
"""Numbers by metric key, "step" among them."""
State = Literal["starting", "running", "stopped", "done", "failed"]


class MetricLog:
    """Appends records; each flush is a part. Another thread may flush than appends."""

    def __init__(self, store: CheckpointStore, claim: Claim) -> None:
        self._store = store
        self._claim = claim
        self._sequence = 0
        self._records: list[Record] = []

    def append(self, record: Record) -> None:
        """Add a record to the part that the next flush writes."""
        self._records.append(record)

    def flush(self) -> None:
        """Store what was appended since the last flush.

        When that fails, the next flush writes the same part with all that was appended since: nothing is lost, and
        nothing is there twice where only the answer of storage was lost.
        """
        if count := len(self._records):
            self._store.write(_part(self._claim[0], self._sequence), _encoded(self._claim, self._records[:count]))
            self._sequence += 1
            del self._records[:count]


def read_metrics(
    store: CheckpointStore, believed: Collection[Claim], pass_over: Callable[[str], None] | None = None
) -> list[Record]:
    """All believed records in the order in which they were written.

    `pass_over` hears of each damaged part, and the others are read; without it, one raises RunError.
    """

    def damaged(path: str, _: bytes, error: Exception) -> None:
        if pass_over is None:
            raise RunError(f"{path} is damaged ({error}); delete it to go on without its records") from error
        pass_over(f"{path} is damaged ({error}): its metrics are lost")

    return [record for _, _, records in _parts(store, believed, damaged) for record in records]


def is_before(record: Record, step: int, *, validation_owed: bool) -> bool:
    """Whether a record is of what was done up to a step; an epoch that ends there may be without its validation."""
    return record["step"] < step or (record["step"] == step and not (validation_owed and _VALIDATED in record))


def cut_back(
    store: CheckpointStore, believed: Collection[Claim], step: int, *, validation_owed: bool = False
) -> list[str]:
    """Drop the records beyond a step: the run is continued from there and will write them again.

    `validation_owed`: the run goes on with the validation of the epoch that ends at that step, so its record goes, too.
    Damaged parts are moved to metrics/damaged/, so that the run can go on; a line for each comes back, for people. The
    records in them are lost: the steps are not trained again for them. Only who holds the run may do this.
    """
    said: list[str] = []

    def set_aside(path: str, data: bytes, error: Exception) -> None:
        aside = f"{_FOLDER}/damaged/{path.rpartition('/')[2]}"
        store.write(aside, data)
        store.delete(path)
        said.append(f"{path} is damaged ({error}) and lies in {aside} now; its metrics are lost, the weights are not")

    for path, claim, records in _parts(store, believed, set_aside):
        kept = [record for record in records if is_before(record, step, validation_owed=validation_owed)]
        if not kept:
            store.delete(path)
        elif len(kept) < len(records):
            store.write(path, _encoded(claim, kept))
    return said


@dataclass(frozen=True)
class Status:
    """The state of a run, status.json, for people and programs."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    state: State
    submission: str
    """The submission that started it: its retries share the name."""
    generation: int = 0
    """The lease generation of the worker group."""
    step: int = 0
    epoch: int = 0
    """Epochs done."""
    epochs: int = 0
    steps_per_epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    """The newest value of each."""
    images_per_second: float | None = None
    learning_rate: float | None = None
    data_wait_share: float | None = None
    """0 .. 1 of the time that training waited for images."""
    eta_s: float | None = None
    tracker: str = ""
    """URL or path of the run at its tracker; empty where there is none."""
    messages: int = 0
    """Lines in the log of this generation, so that a reader knows when there are more."""
    exit_code: int | None = None
    message: str = ""
    updated: str = ""
    """UTC time, ISO 8601."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the time of this call."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {"schema": SCHEMA, **asdict(self), "metrics": plain_numbers(self.metrics), "updated": now}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Status":
        """From what `to_json` made; raises ValueError for anything else."""
        fields = dict(value)
        if fields.pop("schema", None) != SCHEMA:
            raise ValueError("status.json is of another version")
        try:
            fields["metrics"] = {name: float(number) for name, number in fields["metrics"].items()}
            return _STATUS.validate_json(json.dumps(fields), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"status.json is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"status.json is damaged: {error}") from error


_STATUS = TypeAdapter(Status)


def _part(generation: int, sequence: int) -> str:
    return f"{_FOLDER}/part-{generation:06d}-{sequence:06d}.jsonl"


def _encoded(claim: Claim, records: list[Record]) -> bytes:
    header = {"schema": SCHEMA, "generation": claim[0], "token": claim[1]}
    lines = "".join(json.dumps(plain_numbers(record), allow_nan=False) + "\n" for record in records)
    return (json.dumps({**header, "sha256": _seal(header, lines)}) + "\n" + lines).encode()


def _seal(header: Mapping[str, Any], lines: str) -> str:
    return hashlib.sha256(f"{json.dumps(header)}\n{lines}".encode()).hexdigest()


def _decoded(data: bytes) -> tuple[Claim, list[Record]]:
    """Raises one of `_DAMAGE` for a damaged part."""
    first, _, lines = data.decode().partition("\n")
    header: dict[str, Any] = json.loads(first)
    digest = header.pop("sha256", None)
    if digest is not None and digest != _seal(header, lines):
        raise ValueError("its own hash does not fit")
    claim = (int(header["generation"]), str(header["token"]))
    records = [{key: _number(value) for key, value in json.loads(line).items()} for line in lines.splitlines()]
    if header["schema"] != SCHEMA or not all("step" in record for record in records):
        raise ValueError("it is of another version")
    return claim, records


def _parts(
    store: CheckpointStore, believed: Collection[Claim], damaged: Callable[[str, bytes, Exception], None]
) -> list[tuple[str, Claim, list[Record]]]:
    """The believed parts; `damaged` gets the path, the bytes and the error of each that cannot be read."""
    parts: list[tuple[str, Claim, list[Record]]] = []
    for name in store.list(_FOLDER):
        if not _PART.fullmatch(name):
            continue
        path = f"{_FOLDER}/{name}"
        data = store.read(path)
        try:
            claim, records = _decoded(data)
        except _DAMAGE as error:
            damaged(path, data, error)
            continue
        if claim in believed:
            parts.append((path, claim, records))
    return parts


def _number(value: float | str) -> float:
    """What `plain_numbers` was given; whole numbers stay whole."""
    return float(value) if isinstance(value, str) else value
