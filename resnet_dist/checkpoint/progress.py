"""How far training had come, as a checkpoint says. It is read without the weights, and without torch."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Self

from resnet_dist.checkpoint.manifest import (
    PROGRESS,
    SCHEMA,
    best_first,
    name_of,
    read_manifest,
    read_manifests,
    stored_steps,
)
from resnet_dist.checkpoint.store import CheckpointStore, Claim
from resnet_dist.errors import RunError
from resnet_dist.plain_json import plain_number, plain_numbers


@dataclass(frozen=True)
class Best:
    """The epoch that is best so far by the monitored metric."""

    step: int
    value: float
    monitor: str
    """The metric that `value` is of: another one has another best."""


@dataclass(frozen=True)
class Microbatches:
    """The microbatch size in effect."""

    size: int
    since_step: int
    """The step since which it has been in effect; 0 where it is the configured one."""


@dataclass(frozen=True)
class Progress:
    """How far training had come; with the weights and the training state, all that a resumed run needs."""

    step: int
    """Optimizer steps done."""
    epoch: int
    """The epoch that training is in, from 0."""
    step_in_epoch: int
    """Steps of that epoch done."""
    microbatches: Microbatches
    """The microbatch size in effect, which wins over the config on resume."""
    validation_owed: bool = False
    """The epoch's steps are done and its validation is not."""
    metrics: dict[str, float] | None = None
    """Validation metrics, of epoch-end checkpoints only."""
    best: Best | None = None
    plateau: dict[str, Any] | None = None
    """State of the schedule's plateau, of schedules that have one."""
    early_stopping: dict[str, Any] | None = None
    """State of early stopping, where it is on."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        best = None if self.best is None else {**asdict(self.best), "value": plain_number(self.best.value)}
        metrics = None if self.metrics is None else plain_numbers(self.metrics)
        return {"schema": SCHEMA, **asdict(self), "metrics": metrics, "best": best}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From what `to_json` made; raises ValueError, KeyError or TypeError for anything else."""
        fields = dict(value)
        if fields.pop("schema", None) != SCHEMA:
            raise ValueError("progress.json is of another version")
        if fields.keys() != {field.name for field in dataclass_fields(cls)}:
            raise ValueError(f"progress.json has the fields {sorted(fields)}")
        best, metrics, microbatches = fields.pop("best"), fields.pop("metrics"), fields.pop("microbatches")
        return cls(
            microbatches=Microbatches(int(microbatches["size"]), int(microbatches["since_step"])),
            best=None if best is None else Best(int(best["step"]), float(best["value"]), str(best["monitor"])),
            metrics=None if metrics is None else {name: float(number) for name, number in metrics.items()},
            **fields,
        )


def better(monitor: str, new: float, old: float) -> bool:
    """Whether a value of the monitored metric beats an older one; of equal ones the earlier stays. NaN never does."""
    return new < old if monitor.endswith("/loss") else new > old


def progress_of(name: str, step: int, data: bytes) -> Progress:
    """What a checkpoint's progress.json says. Raises RunError where it is no such file, or of another step."""
    try:
        progress = Progress.from_json(json.loads(data))
    except Exception as error:  # whatever a parser makes of bytes that anybody may have put there
        raise RunError(f"{name} was not loaded: its {PROGRESS} cannot be read ({error})") from error
    if progress.step != step:
        raise RunError(f"{name} holds step {progress.step}: it was renamed")
    return progress


def latest_progress(store: CheckpointStore, believed: Collection[Claim]) -> Progress | None:
    """How far the newest checkpoint says that training came; None where there is none.

    It claims that a believed writer stored a checkpoint of that step to its end. It does not claim that the weights
    are still as they were written: nobody reads them here. Whoever goes on from them or hands them out calls
    `reading.latest_verified`, which passes a damaged checkpoint over.
    """
    for step in reversed(stored_steps(store)):
        try:
            data = read_manifest(store, step, believed).read(store, PROGRESS)
            return progress_of(name_of(step), step, data)
        except RunError:
            continue  # the rank that passes it over logs why
    return None


def best_stored(store: CheckpointStore, believed: Collection[Claim], newest: int, monitor: str) -> Best | None:
    """The best validated checkpoint up to step `newest` that is stored, by any monitored metric; None where none is."""
    manifests = {step: manifest for step, manifest in read_manifests(store, believed).items() if step <= newest}
    steps = best_first(manifests, monitor)
    return Best(steps[0], manifests[steps[0]].metrics[monitor], monitor) if steps else None
