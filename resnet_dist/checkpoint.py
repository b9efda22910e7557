"""Checkpoints: a directory that is complete or absent.

`checkpoints/step-00000120/` holds model.json, weights.safetensors (the weights to be judged), training_state.pt (what
only training needs), progress.json and, written last, manifest.json with the size and SHA-256 of every other file
and the claim (lease generation and token) of who wrote it. Without a manifest, with a wrong hash or with a claim that
is not in the lease's history a checkpoint does not exist.
"""

import hashlib
import io
import json
import math
import pickle
import re
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self, cast

import safetensors.torch
import torch

from resnet_dist.errors import RunError

SCHEMA = 1
_FOLDER = "checkpoints"
_MANIFEST = "manifest.json"
_FILES = ("model.json", "weights.safetensors", "training_state.pt", "progress.json")

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


@dataclass(frozen=True)
class Progress:
    """How far training had come; with the weights and the training state, all that a resumed run needs."""

    step: int
    """Optimizer steps done."""
    epoch: int
    """The epoch that training is in, from 0."""
    step_in_epoch: int
    """Steps of that epoch done."""
    microbatch_size: int
    """The microbatch size in effect, which wins over the config on resume."""
    microbatch_since_step: int = 0
    """The step from which on it has been in effect."""
    validation_owed: bool = False
    """The epoch's steps are done and its validation is not."""
    metrics: dict[str, float] | None = None
    """Validation metrics, of epoch-end checkpoints only."""
    best: Best | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": SCHEMA, **asdict(self), "metrics": _plain(self.metrics)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """From what `to_json` made; raises ValueError, KeyError or TypeError for anything else."""
        fields = dict(value)
        if fields.pop("schema", None) != SCHEMA:
            raise ValueError("progress.json is of another version")
        best, metrics = fields.pop("best"), fields.pop("metrics")
        return cls(
            best=None if best is None else Best(int(best["step"]), float(best["value"])),
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
    """A checkpoint whose bytes were verified; what is parsed are those very bytes."""

    def __init__(self, name: str, files: dict[str, bytes]) -> None:
        self.name = name
        self._files = files
        self.progress = Progress.from_json(json.loads(files["progress.json"]))

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def model_json(self) -> dict[str, Any]:
        """The architecture."""
        return json.loads(self._files["model.json"])

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights to be judged. Raises RunError for a file that holds anything but tensors."""
        try:
            return safetensors.torch.load(self._files["weights.safetensors"])
        except safetensors.SafetensorError as error:
            raise RunError(f"{self.name}/weights.safetensors holds no tensors: {error}") from error

    def training_state(self) -> dict[str, Any]:
        """What only training needs. Raises RunError rather than run code that a file may hold."""
        return _loaded_state(self._files["training_state.pt"], self.name)


def better(monitor: str, new: float, old: float) -> bool:
    """Whether a value of the monitored metric beats an older one; of equal ones the earlier stays. NaN never does."""
    return new < old if monitor.endswith("/loss") else new > old


def write_checkpoint(store: Store, snapshot: Snapshot, claim: Claim, confirm: Callable[[], None]) -> None:
    """Store a snapshot. `confirm` raises when the run is not ours any more; it is called first, and last before the
    manifest."""
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
    for name, data in files.items():
        store.write(f"{folder}/{name}", data)
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
    store.write(f"{folder}/{_MANIFEST}", _json_bytes(manifest))


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
        found = latest_verified(store, believed, lambda _: None)
        if found is None:
            raise RunError(f"no whole checkpoint among {_listed(store)}; train first")
        return found
    if which == "best":
        best = _by_value(_manifests(store, believed), monitor)
        return _verified_of(store, best[0], believed) if best else load(store, "last", believed)
    if which not in _steps(store):
        raise RunError(f"no checkpoint of step {which}; there are {_listed(store)}")
    return _verified_of(store, which, believed)


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


class CheckpointWriter:
    """Stores snapshots while training goes on, one at a time; a context manager that ends when all is stored.

    The first failure is raised by the next `submit`, by `drain` or at the end; checkpoints stored before are intact.
    `believed` is the lease's history, `claim` included.
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        believed: Collection[Claim],
        confirm: Callable[[], None],
        keep_last: int,
        monitor: str,
    ) -> None:
        self._store = store
        self._claim = claim
        self._believed = believed
        self._confirm = confirm
        self._keep_last = keep_last
        self._monitor = monitor
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.drain()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"and a checkpoint could not be stored: {failure}")

    def submit(self, snapshot: Snapshot) -> None:
        """Start storing a snapshot, once the one before it is stored."""
        self.drain()
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint-writer")
        self._thread.start()

    def drain(self) -> None:
        """Wait until everything submitted is stored."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _write(self, snapshot: Snapshot) -> None:
        try:
            write_checkpoint(self._store, snapshot, self._claim, self._confirm)
            # One that still owes its validation is replaced by one of the same step: while that is being written,
            # those before it are all there is.
            if not snapshot.progress.validation_owed:
                self._confirm()
                prune(self._store, self._believed, snapshot.step, self._keep_last, self._monitor)
        except Exception as error:  # handed on to the training thread, whatever it is
            self._failure = error


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
    if (manifest["generation"], manifest["token"]) not in believed:
        raise RunError(f"{name} was written by a process that had lost the run (generation {manifest['generation']})")
    files: dict[str, bytes] = {}
    for file in _FILES:
        said = manifest["files"].get(file)
        if said is None or not store.exists(f"{folder}/{file}"):
            raise RunError(f"{name} lacks {file}")
        data = store.read(f"{folder}/{file}")
        if len(data) != said["size"] or hashlib.sha256(data).hexdigest() != said["sha256"]:
            raise RunError(f"{name} is damaged: {file} has {len(data)} bytes and is not as it was written")
        files[file] = data
    try:
        checkpoint = Checkpoint(name, files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{name} cannot be read by this version: {error}") from error
    if checkpoint.step != step:
        raise RunError(f"{name} holds step {checkpoint.step}: it was renamed")
    return checkpoint


def _manifest(store: Store, step: int) -> dict[str, Any]:
    path = f"{_FOLDER}/{_name(step)}/{_MANIFEST}"
    if not store.exists(path):
        raise RunError(f"{_name(step)} has no manifest: it was not written to its end")
    try:
        manifest: Any = json.loads(store.read(path))
        whole = (
            manifest["schema"] == SCHEMA
            and isinstance(manifest["generation"], int)
            and isinstance(manifest["token"], str)
            and all(isinstance(said["size"], int) and said["sha256"] for said in manifest["files"].values())
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{_name(step)} has a damaged manifest: {error}") from error
    if not whole:
        raise RunError(f"{_name(step)} has a manifest of another version")
    return cast("dict[str, Any]", manifest)


def _manifests(store: Store, believed: Collection[Claim]) -> dict[int, dict[str, Any]]:
    """The manifests that can be read and are believed, by step."""
    found: dict[int, dict[str, Any]] = {}
    for step in _steps(store):
        with suppress(RunError):
            manifest = _manifest(store, step)
            if (manifest["generation"], manifest["token"]) in believed:
                found[step] = manifest
    return found


def _by_value(manifests: Mapping[int, Mapping[str, Any]], monitor: str) -> list[int]:
    """Steps of epoch-end checkpoints, the best by `monitor` first, the earliest of equal ones first."""
    values: list[tuple[float, int]] = []
    for step, manifest in manifests.items():
        metrics = manifest.get("metrics")
        value = metrics.get(monitor) if isinstance(metrics, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(value, int | float):
            values.append((value if monitor.endswith("/loss") else -value, step))
    return [step for _, step in sorted(values)]


def _plain(metrics: Mapping[str, float] | None) -> dict[str, float | str] | None:
    """JSON has no NaN or infinity: such numbers become their text, which `float` reads back."""
    return None if metrics is None else {name: plain_number(value) for name, value in metrics.items()}


def plain_number(value: float) -> float | str:
    """A number for JSON: itself, or "nan", "inf" or "-inf"."""
    return value if math.isfinite(value) else str(float(value))


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _saved_state(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _loaded_state(data: bytes, name: str) -> dict[str, Any]:
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise RunError(f"{name}/training_state.pt holds more than tensors and was not loaded: {error}") from error
