"""The manifest, which is written last and makes a checkpoint exist: what the other files must be, and who wrote them.

`checkpoints/step-00000120/` holds model.json, weights.safetensors (the weights to be judged), training_state.pt (what
only training needs), progress.json and, written last, manifest.json with the size and SHA-256 of every other file,
its own, the claim (lease generation and token) of who wrote it, and the origin: the identity of the run, and the
SHA-256 that its records.json had. Without a manifest, with a wrong hash or with a claim that is not in the lease's
history a checkpoint does not exist.
"""

import hashlib
import math
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from resnet_dist.checkpoint.store import CheckpointStore, Claim
from resnet_dist.errors import RunError
from resnet_dist.plain_json import plain_numbers
from resnet_dist.sealed_json import sealed, unsealed

SCHEMA = 1
FOLDER = "checkpoints"
MANIFEST = "manifest.json"
MODEL, WEIGHTS, TRAINING_STATE, PROGRESS = "model.json", "weights.safetensors", "training_state.pt", "progress.json"


@dataclass(frozen=True)
class Origin:
    """What a checkpoint was trained as."""

    records: str
    """SHA-256 of the run's records.json when the checkpoint was written. A later start may have replaced that since."""
    identity: dict[str, Any]
    """The run's, by dotted name with plain values. It never changes."""


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says."""

    step: int
    """By the folder's name."""
    claim: Claim
    metrics: dict[str, float]
    """Validation metrics; empty but at the end of an epoch."""
    files: dict[str, tuple[int, str]]
    """Size and SHA-256 of every other file."""
    origin: Origin | None
    """None of a checkpoint that was written before there was a records.json."""

    def read(self, store: CheckpointStore, file: str) -> bytes:
        """A file of the checkpoint, every byte as it was written. Raises RunError with what is wrong."""
        name = name_of(self.step)
        data = store.read_or_none(f"{FOLDER}/{name}/{file}")
        if data is None:
            raise RunError(f"{name} lacks {file}")
        if (len(data), hashlib.sha256(data).hexdigest()) != self.files.get(file):
            raise RunError(f"{name} is damaged: {file} has {len(data)} bytes and is not as it was written")
        return data


def name_of(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"step-{step:08d}"


def stored_steps(store: CheckpointStore) -> list[int]:
    """The steps that have a folder, complete or not, in order."""
    matches = (re.fullmatch(r"step-(\d{8,})", name) for name in store.list(FOLDER))
    return sorted(int(match[1]) for match in matches if match)


def manifest_bytes(
    step: int,
    claim: Claim,
    metrics: Mapping[str, float] | None,
    files: Mapping[str, bytes],
    origin: Origin | None,
) -> bytes:
    """manifest.json of a checkpoint with these files."""
    return sealed(
        {
            "schema": SCHEMA,
            "step": step,
            "generation": claim[0],
            "token": claim[1],
            "origin": None if origin is None else asdict(origin),
            "metrics": None if metrics is None else plain_numbers(metrics),
            "files": {
                name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
            },
        }
    )


def read_manifest(store: CheckpointStore, step: int, believed: Collection[Claim]) -> Manifest:
    """Raises RunError where there is none that is whole, or where its claim is not believed."""
    data = store.read_or_none(f"{FOLDER}/{name_of(step)}/{MANIFEST}")
    if data is None:
        raise RunError(f"{name_of(step)} has no manifest: it was not written to its end")
    try:
        value = unsealed(data)
        if value["schema"] != SCHEMA:
            raise ValueError(f"it is of version {value['schema']}, this program reads {SCHEMA}")
        metrics: dict[str, Any] = value["metrics"] or {}
        origin = value.get("origin")
        manifest = Manifest(
            step=step,
            claim=(int(value["generation"]), str(value["token"])),
            metrics={str(name): float(number) for name, number in metrics.items()},
            files={name: (int(file["size"]), str(file["sha256"])) for name, file in value["files"].items()},
            origin=None if origin is None else Origin(str(origin["records"]), dict(origin["identity"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise RunError(f"{name_of(step)} has a damaged manifest: {error}") from error
    if manifest.claim not in believed:
        raise RunError(
            f"{name_of(step)} was written by a process that had lost the run (generation {manifest.claim[0]})"
        )
    return manifest


def read_manifests(store: CheckpointStore, believed: Collection[Claim]) -> dict[int, Manifest]:
    """The manifests that can be read and are believed, by step."""
    found: dict[int, Manifest] = {}
    for step in stored_steps(store):
        with suppress(RunError):
            found[step] = read_manifest(store, step, believed)
    return found


def newest_origin(store: CheckpointStore, believed: Collection[Claim]) -> Origin | None:
    """What the newest checkpoint that says it was trained as; None where none says it."""
    for step in reversed(stored_steps(store)):
        with suppress(RunError):
            origin = read_manifest(store, step, believed).origin
            if origin is not None:
                return origin
    return None


def best_manifest(store: CheckpointStore, believed: Collection[Claim], monitor: str) -> Manifest:
    """That of the best checkpoint by `monitor`, of the newest where none was validated. No weights are read.

    Raises RunError where there is none.
    """
    manifests = read_manifests(store, believed)
    steps = best_first(manifests, monitor) or sorted(manifests, reverse=True)
    if not steps:
        raise RunError("no whole checkpoint; train first")
    return manifests[steps[0]]


def best_first(manifests: Mapping[int, Manifest], monitor: str) -> list[int]:
    """Steps of epoch-end checkpoints, the best by `monitor` first, the earliest of equal ones first."""
    sign = 1.0 if monitor.endswith("/loss") else -1.0
    values = {step: manifest.metrics.get(monitor, math.nan) for step, manifest in manifests.items()}
    return sorted(
        (step for step in values if math.isfinite(values[step])), key=lambda step: (sign * values[step], step)
    )
