"""Stores a checkpoint so that it is complete or absent, and deletes old ones."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from resnet_dist.checkpoint.contents import Snapshot
from resnet_dist.checkpoint.manifest import (
    FOLDER,
    MANIFEST,
    Origin,
    best_first,
    manifest_bytes,
    name_of,
    read_manifests,
    stored_steps,
)
from resnet_dist.checkpoint.store import CheckpointStore, Claim


@dataclass(frozen=True)
class CheckpointFolder:
    """Where a run's checkpoints go, and which of them stay."""

    store: CheckpointStore
    claim: Claim
    believed: Collection[Claim]
    """The lease's history, `claim` included."""
    confirm: Callable[[], None]
    """Raises when the run is no longer ours."""
    keep_last: int
    monitor: str
    origin: Origin | None = None
    """What each manifest says of the run."""

    def write(self, snapshot: Snapshot) -> None:
        """Store a snapshot, then delete what it makes superfluous."""
        write_checkpoint(self.store, snapshot, self.claim, self.confirm, self.origin)
        # One that still owes its validation is replaced by one of the same step: while that is being written, those
        # before it are all there is.
        if not snapshot.progress.validation_owed:
            self.confirm()
            prune(self.store, self.believed, snapshot.step, self.keep_last, self.monitor)


def write_checkpoint(
    store: CheckpointStore,
    snapshot: Snapshot,
    claim: Claim,
    confirm: Callable[[], None],
    origin: Origin | None = None,
) -> None:
    """Store a snapshot; when that fails, what was written of it is removed and earlier checkpoints are intact.

    `confirm` raises when the run is no longer ours; it is called first, and last before the manifest.
    """
    folder = f"{FOLDER}/{name_of(snapshot.step)}"
    files = snapshot.files()
    # A checkpoint of the same step that is replaced must not be believed with half of its files new, and one that
    # another process has written since must not be touched.
    confirm()
    store.delete(f"{folder}/{MANIFEST}")
    try:
        for name, data in files.items():
            store.write(f"{folder}/{name}", data)
    except BaseException:
        with suppress(Exception):  # the first error is raised, and storage may be gone
            confirm()
            store.delete(folder)
        raise
    manifest = manifest_bytes(snapshot.step, claim, snapshot.progress.metrics, files, origin)
    confirm()
    store.write(f"{folder}/{MANIFEST}", manifest)


def prune(store: CheckpointStore, believed: Collection[Claim], newest: int, keep_last: int, monitor: str) -> None:
    """Delete what is older than step `newest`, which was just written, but for the `keep_last` newest and the best.

    Only believed checkpoints count among those. Later steps are remains of a past that this run did not resume from:
    they do not count either, and training replaces them when it reaches them.
    """
    manifests = {step: manifest for step, manifest in read_manifests(store, believed).items() if step <= newest}
    kept = {*sorted(manifests)[-keep_last:], *best_first(manifests, monitor)[:1]}
    for step in stored_steps(store):
        if step < newest and step not in kept:
            # Without its manifest it is gone, however little of the rest is deleted in time.
            store.delete(f"{FOLDER}/{name_of(step)}/{MANIFEST}")
            store.delete(f"{FOLDER}/{name_of(step)}")
