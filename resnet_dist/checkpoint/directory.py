"""Checkpoints: a directory that is complete or absent.

`checkpoints/step-00000120/` holds model.json, weights.safetensors (the weights to be judged), training_state.pt (what
only training needs), progress.json and, written last, manifest.json with the size and SHA-256 of every other file,
its own, and the claim (lease generation and token) of who wrote it. Without a manifest, with a wrong hash or with a
claim that is not in the lease's history a checkpoint does not exist.
"""

import hashlib
import io
import json
import logging
import math
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Literal, Protocol, Self

import safetensors.torch
import torch

from resnet_dist.errors import RunError
from resnet_dist.plain_json import plain_number, plain_numbers

SCHEMA = 1
_FOLDER = "checkpoints"
_MANIFEST = "manifest.json"
_FILES = ("model.json", "weights.safetensors", "training_state.pt", "progress.json")
_LOGGER = logging.getLogger(__name__)

Claim = tuple[int, str]
"""Lease generation and token of a writer."""
Which = Literal["best", "last"] | int


class Store(Protocol):
    """What a checkpoint asks of storage: whole files, replaced at once or not at all."""

    def write(self, path: str, data: bytes) -> None:
        """Create or replace a file."""
        ...

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def list(self, path: str) -> list[str]:
        """Names in a folder, none where it is absent."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file or a folder with its content."""
        ...


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
    """The step from which on it has been in effect; 0 where it is the one that was asked for."""


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
        return {"schema": SCHEMA, **asdict(self), "metrics": _plain(self.metrics), "best": best}

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


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint is written from: copies on the CPU that training does not touch any more."""

    model: dict[str, Any]
    weights: dict[str, torch.Tensor]
    """The whole state_dict, contiguous."""
    training_state: dict[str, Any]
    """Tensors in plain containers."""
    progress: Progress

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step


class Checkpoint:
    """A checkpoint whose bytes were verified; what is parsed are those very bytes.

    No file runs code: weights are safetensors, and of a training state only tensors in plain containers are read.
    """

    def __init__(self, name: str, files: Mapping[str, bytes]) -> None:
        self.name = name
        self.progress = Progress.from_json(json.loads(files["progress.json"]))
        self._model: dict[str, Any] = json.loads(files["model.json"])
        self._weights = safetensors.torch.load(files["weights.safetensors"])
        self._training_state: dict[str, Any] = torch.load(
            io.BytesIO(files["training_state.pt"]), map_location="cpu", weights_only=True
        )

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def model_json(self) -> dict[str, Any]:
        """The architecture."""
        return self._model

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights to be judged, on the CPU."""
        return self._weights

    def training_state(self) -> dict[str, Any]:
        """What only training needs, on the CPU."""
        return self._training_state


def better(monitor: str, new: float, old: float) -> bool:
    """Whether a value of the monitored metric beats an older one; of equal ones the earlier stays. NaN never does."""
    return new < old if monitor.endswith("/loss") else new > old


def write_checkpoint(store: Store, snapshot: Snapshot, claim: Claim, confirm: Callable[[], None]) -> None:
    """Store a snapshot; when that fails, what was written of it is removed and earlier checkpoints are intact.

    `confirm` raises when the run is not ours any more; it is called first, and last before the manifest.
    """
    folder = f"{_FOLDER}/{_name(snapshot.step)}"
    files = {
        "model.json": _json_bytes(snapshot.model),
        "weights.safetensors": safetensors.torch.save(snapshot.weights),
        "training_state.pt": _saved_state(snapshot.training_state),
        "progress.json": _json_bytes(snapshot.progress.to_json()),
    }
    # A checkpoint of the same step that is replaced must not be believed with half of its files new, and one that
    # another process has written since must not be touched.
    confirm()
    store.delete(f"{folder}/{_MANIFEST}")
    try:
        for name, data in files.items():
            store.write(f"{folder}/{name}", data)
    except BaseException:
        with suppress(Exception):  # what failed is said, and storage may be gone
            store.delete(folder)
        raise
    manifest = {
        "schema": SCHEMA,
        "step": snapshot.step,
        "generation": claim[0],
        "token": claim[1],
        "metrics": _plain(snapshot.progress.metrics),
        "files": {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
        },
    }
    confirm()
    store.write(f"{folder}/{_MANIFEST}", _sealed(manifest))


def latest_verified(store: Store, believed: Collection[Claim], log: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole and believed, None where there is none; `log` hears why others are not."""
    for step in reversed(_steps(store)):
        try:
            return _verified(store, step, believed)
        except RunError as error:
            log(f"checkpoint ignored: {error}; trying the one before it")
    return None


def load(store: Store, which: Which, believed: Collection[Claim], monitor: str = "val/top1") -> Checkpoint:
    """The newest whole one, the best by `monitor` (the newest where none was validated), or the one of a step.

    Raises RunError where there is none, and when the best one is damaged: another is not silently judged for it.
    """
    if which == "last":
        found = latest_verified(store, believed, _LOGGER.warning)
        if found is None:
            raise RunError(f"no whole checkpoint among {_listed(store)}; train first")
        return found
    if which == "best":
        best = _by_value(_manifests(store, believed), monitor)
        return _verified_of(store, best[0], believed) if best else load(store, "last", believed)
    if which not in _steps(store):
        raise RunError(f"no checkpoint of step {which}; there are {_listed(store)}")
    return _verified_of(store, which, believed)


def best_stored(store: Store, believed: Collection[Claim], newest: int, monitor: str) -> Best | None:
    """The best validated checkpoint up to step `newest` that is stored, by any monitored metric; None where none is."""
    manifests = {step: manifest for step, manifest in _manifests(store, believed).items() if step <= newest}
    steps = _by_value(manifests, monitor)
    return Best(steps[0], manifests[steps[0]].metrics[monitor], monitor) if steps else None


def prune(store: Store, believed: Collection[Claim], newest: int, keep_last: int, monitor: str) -> None:
    """Delete what is older than step `newest`, which was just written, but for the `keep_last` newest and the best.

    Only checkpoints that are believed count among those. Later steps are remains of a past that this run did not
    resume from: they take nobody's place, and are replaced when it comes to them.
    """
    manifests = {step: manifest for step, manifest in _manifests(store, believed).items() if step <= newest}
    kept = {*sorted(manifests)[-keep_last:], *_by_value(manifests, monitor)[:1]}
    for step in _steps(store):
        if step < newest and step not in kept:
            # Without its manifest it is gone, however little of the rest is deleted in time.
            store.delete(f"{_FOLDER}/{_name(step)}/{_MANIFEST}")
            store.delete(f"{_FOLDER}/{_name(step)}")


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _steps(store: Store) -> list[int]:
    matches = (re.fullmatch(r"step-(\d{8,})", name) for name in store.list(_FOLDER))
    return sorted(int(match[1]) for match in matches if match)


def _listed(store: Store) -> str:
    return ", ".join(str(step) for step in _steps(store)) or "none"


def _verified_of(store: Store, step: int, believed: Collection[Claim]) -> Checkpoint:
    """`_verified` for one that was asked for: its error lists what else there is."""
    try:
        return _verified(store, step, believed)
    except RunError as error:
        raise RunError(f"{error}; there are {_listed(store)}: choose another one with --checkpoint") from error


def _verified(store: Store, step: int, believed: Collection[Claim]) -> Checkpoint:
    """A checkpoint of which every byte is as it was written. Raises RunError with what is wrong."""
    name = _name(step)
    folder = f"{_FOLDER}/{name}"
    manifest = _manifest(store, step)
    if manifest.claim not in believed:
        raise RunError(f"{name} was written by a process that had lost the run (generation {manifest.claim[0]})")
    files: dict[str, bytes] = {}
    for file in _FILES:
        if not store.exists(f"{folder}/{file}"):
            raise RunError(f"{name} lacks {file}")
        data = store.read(f"{folder}/{file}")
        if (len(data), hashlib.sha256(data).hexdigest()) != manifest.files.get(file):
            raise RunError(f"{name} is damaged: {file} has {len(data)} bytes and is not as it was written")
        files[file] = data
    try:
        checkpoint = Checkpoint(name, files)
    except Exception as error:  # whatever a parser makes of bytes that anybody may have put there
        raise RunError(f"{name} was not loaded: it cannot be read, or holds more than tensors ({error})") from error
    if checkpoint.step != step:
        raise RunError(f"{name} holds step {checkpoint.step}: it was renamed")
    return checkpoint


@dataclass(frozen=True)
class _Manifest:
    """What manifest.json says."""

    claim: Claim
    metrics: dict[str, float]
    """Validation metrics; none but at the end of an epoch."""
    files: dict[str, tuple[int, str]]
    """Size and SHA-256 of every other file."""


def _manifest(store: Store, step: int) -> _Manifest:
    """Raises RunError where there is none that is whole."""
    path = f"{_FOLDER}/{_name(step)}/{_MANIFEST}"
    if not store.exists(path):
        raise RunError(f"{_name(step)} has no manifest: it was not written to its end")
    data = store.read(path)
    try:
        value: dict[str, Any] = json.loads(data)
        if _sealed({key: item for key, item in value.items() if key != "sha256"}) != data:
            raise ValueError("its own hash does not fit")
        if value["schema"] != SCHEMA:
            raise ValueError(f"it is of version {value['schema']}, this program reads {SCHEMA}")
        metrics: dict[str, Any] = value["metrics"] or {}
        return _Manifest(
            claim=(int(value["generation"]), str(value["token"])),
            metrics={str(name): float(number) for name, number in metrics.items()},
            files={name: (int(said["size"]), str(said["sha256"])) for name, said in value["files"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise RunError(f"{_name(step)} has a damaged manifest: {error}") from error


def _sealed(manifest: Mapping[str, Any]) -> bytes:
    """A manifest's file: with the SHA-256 of itself, so that a changed metric or claim is found out, too."""
    digest = hashlib.sha256(_json_bytes(manifest)).hexdigest()
    return _json_bytes({**manifest, "sha256": digest})


def _manifests(store: Store, believed: Collection[Claim]) -> dict[int, _Manifest]:
    """The manifests that can be read and are believed, by step."""
    found: dict[int, _Manifest] = {}
    for step in _steps(store):
        with suppress(RunError):
            manifest = _manifest(store, step)
            if manifest.claim in believed:
                found[step] = manifest
    return found


def _by_value(manifests: Mapping[int, _Manifest], monitor: str) -> list[int]:
    """Steps of epoch-end checkpoints, the best by `monitor` first, the earliest of equal ones first."""
    sign = 1.0 if monitor.endswith("/loss") else -1.0
    values = {step: manifest.metrics.get(monitor, math.nan) for step, manifest in manifests.items()}
    return sorted(
        (step for step in values if math.isfinite(values[step])), key=lambda step: (sign * values[step], step)
    )


def _plain(metrics: Mapping[str, float] | None) -> dict[str, float | str] | None:
    """JSON has no NaN or infinity: such numbers become their text, which `float` reads back."""
    return None if metrics is None else plain_numbers(metrics)


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _saved_state(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
