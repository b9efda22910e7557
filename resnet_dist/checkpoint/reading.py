"""Reads whole checkpoints: every byte is verified before it is used."""

import logging
from collections.abc import Callable, Collection
from typing import Literal

from resnet_dist.checkpoint.contents import FILES, Checkpoint
from resnet_dist.checkpoint.manifest import (
    PROGRESS,
    best_first,
    name_of,
    read_manifest,
    read_manifests,
    stored_steps,
)
from resnet_dist.checkpoint.progress import progress_of
from resnet_dist.checkpoint.store import CheckpointStore, Claim
from resnet_dist.errors import RunError

_LOGGER = logging.getLogger(__name__)

Which = Literal["best", "last"] | int


def latest_verified(
    store: CheckpointStore, believed: Collection[Claim], log: Callable[[str], None]
) -> Checkpoint | None:
    """The newest checkpoint that is whole and believed, None where there is none; `log` hears why others are not."""
    for step in reversed(stored_steps(store)):
        try:
            return _verified(store, step, believed)
        except RunError as error:
            log(f"checkpoint ignored: {error}; trying the one before it")
    return None


def load(store: CheckpointStore, which: Which, believed: Collection[Claim], monitor: str = "val/top1") -> Checkpoint:
    """The newest whole one, the best by `monitor` (the newest where none was validated), or the one of a step.

    Raises RunError where there is none, and when the best one is damaged: no other is silently taken for it.
    """
    if which == "last":
        found = latest_verified(store, believed, _LOGGER.warning)
        if found is None:
            raise RunError(f"no whole checkpoint among {_listed(store)}; train first")
        return found
    if which == "best":
        best = best_first(read_manifests(store, believed), monitor)
        return _chosen(store, best[0], believed) if best else load(store, "last", believed)
    if which not in stored_steps(store):
        raise RunError(f"no checkpoint of step {which}; there are {_listed(store)}")
    return _chosen(store, which, believed)


def _chosen(store: CheckpointStore, step: int, believed: Collection[Claim]) -> Checkpoint:
    """`_verified` for one that the caller named: the error lists what else there is."""
    try:
        return _verified(store, step, believed)
    except RunError as error:
        raise RunError(f"{error}; there are {_listed(store)}: choose another one with --checkpoint") from error


def _verified(store: CheckpointStore, step: int, believed: Collection[Claim]) -> Checkpoint:
    """A checkpoint whose every byte is as it was written. Raises RunError with what is wrong."""
    name = name_of(step)
    manifest = read_manifest(store, step, believed)
    files = {file: manifest.read(store, file) for file in FILES}
    progress = progress_of(name, step, files[PROGRESS])
    try:
        return Checkpoint(name, progress, files, manifest.origin)
    except Exception as error:  # whatever a parser makes of bytes that anybody may have put there
        raise RunError(f"{name} was not loaded: it cannot be read, or holds more than tensors ({error})") from error


def _listed(store: CheckpointStore) -> str:
    return ", ".join(str(step) for step in stored_steps(store)) or "none"
