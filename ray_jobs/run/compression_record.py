"""What a pruned or quantised run says of the one that it came from (compression.json).

A pruned run starts from the weights that are left of its parent, in initial.safetensors. compression.json, which has
their SHA-256 and its own, is written last: where it is, they are.
"""

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from cluster.storage.store import Store
from ray_jobs.run.argument import RUNS
from ray_jobs.run.directory import RunDirectory
from resnet_dist.errors import RunError
from resnet_dist.sealed_json import sealed, unsealed

if TYPE_CHECKING:
    import torch

SCHEMA = 1
RECORD, INITIAL = "compression.json", "initial.safetensors"
_REMEDY = "delete the run's folder and start the same command again"
Phase = Literal["prune", "quantize"]
_PHASES: tuple[Phase, ...] = ("prune", "quantize")


@dataclass(frozen=True)
class Ancestor:
    """A finished run that another one was made from."""

    run: str
    """As a RUN argument: a name under the same storage root, else a URI."""
    digest: str
    """Of what its answers follow from: `ray_jobs.training.teacher_run`."""


@dataclass(frozen=True)
class CompressionRecord:
    """How a run came from its parent."""

    phase: Phase
    parent: Ancestor
    teacher: Ancestor
    """Whom it learns from: of a pruned run the one before all pruning."""
    request: dict[str, Any] = field(default_factory=dict[str, Any])
    """What was asked for: target, scope, rounds and the like, as plain values. Another request is another run."""
    plan: dict[str, Any] = field(default_factory=dict[str, Any])
    """What was decided and what it is expected to cost; `resnet_dist.compression.planning.plan`."""
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """Spent before training, by what on."""
    initial_sha256: str = ""
    """Of initial.safetensors; empty where the run starts from `model.weights`."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From what `to_json` gave. Raises ValueError for anything else."""
        if value.get("schema") != SCHEMA:
            raise ValueError(f"it has schema {value.get('schema')!r}, this version reads {SCHEMA}")
        phase = value.get("phase")
        if phase not in _PHASES:
            raise ValueError(f"its phase is {phase!r}, none of {', '.join(_PHASES)}")
        sections = {name: value.get(name) for name in ("request", "plan", "seconds")}
        if not all(isinstance(section, dict) for section in sections.values()):
            raise ValueError(f"it lacks one of {', '.join(sections)}")
        return cls(
            phase=phase,
            parent=_ancestor(value.get("parent")),
            teacher=_ancestor(value.get("teacher")),
            **cast("dict[str, dict[str, Any]]", sections),
            initial_sha256=str(value.get("initial_sha256", "")),
        )


def read_record(run: RunDirectory) -> CompressionRecord | None:
    """What a run says of its parent; None where it says nothing. Raises RunError for a record that is damaged."""
    data = run.store.read_or_none(RECORD)
    if data is None:
        return None
    try:
        return CompressionRecord.from_json(unsealed(data))
    except ValueError as error:
        raise RunError(f"{run.uri}/{RECORD} cannot be used: {error}; {_REMEDY}") from error


def write_record(
    run: RunDirectory, record: CompressionRecord, initial: "dict[str, torch.Tensor] | None" = None
) -> CompressionRecord:
    """Store the record, and before it the weights to start from, if any; the record with their digest comes back."""
    if initial is not None:
        import safetensors.torch  # noqa: PLC0415 - it needs torch, and records are read without

        data = safetensors.torch.save({name: value.contiguous() for name, value in initial.items()})
        run.store.write(INITIAL, data)
        record = replace(record, initial_sha256=hashlib.sha256(data).hexdigest())
    run.store.write(RECORD, sealed(record.to_json()))
    return record


def initial_weights(run: RunDirectory) -> "dict[str, torch.Tensor] | None":
    """The weights that a run starts from instead of `model.weights`; None of a run without.

    Raises RunError where they are missing or changed.
    """
    record = read_record(run)
    if record is None or not record.initial_sha256:
        return None
    import safetensors.torch  # noqa: PLC0415

    data = run.store.read_or_none(INITIAL)
    if data is None or hashlib.sha256(data).hexdigest() != record.initial_sha256:
        state = "is missing" if data is None else f"is not what {RECORD} says"
        raise RunError(f"{run.uri}/{INITIAL} {state}, and the run has no checkpoint yet; {_REMEDY}")
    return safetensors.torch.load(data)


def run_text(run: RunDirectory, storage_root: str) -> str:
    """A RUN argument that finds the run again: its name where it lies under the storage root, else its URI."""
    named = Store.open(storage_root).child(f"{RUNS}/{run.name}")
    return run.name if named.uri == run.uri else run.uri


def _ancestor(value: object) -> Ancestor:
    known = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    if set(known) != {"run", "digest"} or not all(isinstance(text, str) for text in known.values()):
        raise ValueError(f"it has no run and digest of a parent, but {value!r}")
    return Ancestor(**known)
