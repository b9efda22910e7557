"""Images in object storage: each node reads a copy of its own, all copies are the same."""

import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.storage.download import Wanted
from cluster.storage.mirror import Mirror, digest_of
from cluster.storage.store import Store
from data_pipeline.config import DataConfig
from data_pipeline.listing.cache_folder import cache_folder
from data_pipeline.listing.samples import Samples, relative_path_of
from ray_jobs.errors import ConfigError
from ray_jobs.terminal.scan_bar import ScanView


@dataclass(frozen=True)
class NodeImages:
    """What a worker needs to have the images of some samples on its own node."""

    data: DataConfig
    files: dict[str, Wanted]
    """By path below `data.root`, as the driver's copy has them."""

    @classmethod
    def of(cls, data: DataConfig, *splits: Samples) -> "NodeImages | None":
        """After the driver has indexed the data; None where `data.root` is a folder, which all nodes see."""
        if _remote(data.root, "data.root") is None:
            return None
        files: dict[str, Wanted] = {}
        for samples in splits:
            for row, sample_id in enumerate(samples.sample_ids):
                status = os.stat(samples.path(row))  # noqa: PTH116 - bytes
                path = os.fsdecode(relative_path_of(sample_id))
                files[path] = Wanted(status.st_size, status.st_mtime_ns, samples.content[row])
        return cls(data, files)


@contextmanager
def on_this_node(images: NodeImages | None, *splits: Samples) -> Generator[tuple[Samples, ...]]:
    """Within, the samples with the folder where their files are on this node, fetched where they were not there."""
    store = None if images is None else _remote(images.data.root, "data.root")
    if images is None or store is None:
        yield splits
        return
    with ExitStack() as held:
        mirror = Mirror(store, _cache(images.data))
        with ScanView(doing="fetching images") as view:
            held.enter_context(mirror.holding(images.files, view.show))
        yield tuple(replace(samples, root=str(mirror.folder)) for samples in splits)


@contextmanager
def local_data(data: DataConfig) -> Generator[DataConfig]:
    """Within, the same data with `root` and `labels` on this machine: what a URI holds is copied, all of it.

    Raises ConfigError without a folder for the copy, StorageError where it cannot be made.
    """
    with ExitStack() as held:
        root = held.enter_context(local_folder(data.root, data, "data.root"))
        labels = data.labels
        if "://" in labels:
            labels = str(_labels(data))
        yield (
            data
            if (root, labels) == (data.root, data.labels)
            else data.model_copy(update={"root": root, "labels": labels})
        )


@contextmanager
def local_folder(root: str, data: DataConfig, setting: str) -> Generator[str]:
    """Within, the folder `root`, or this machine's copy of what that URI holds. `setting` is what names it."""
    if "://" not in root:
        yield root
        return
    store = Store.open(root, setting)
    if store.local_path is not None:
        yield str(store.local_path)
        return
    with ExitStack() as held:
        mirror = Mirror(store, _cache(data))
        with ScanView(doing="fetching images") as view:
            held.enter_context(mirror.whole(view.show))
        yield str(mirror.folder)


def _labels(data: DataConfig) -> Path:
    """This machine's copy of a labels file."""
    place, mark, options = data.labels.partition("?")
    folder, _, name = place.rpartition("/")
    store = Store.open(f"{folder}{mark}{options}", "data.labels")
    if store.local_path is not None:
        return store.local_path / name
    kept = _cache(data).absolute() / "labels" / digest_of(store.uri)
    Store.open(str(kept), "data.cache_dir").write(name, store.read(name))
    return kept / name


def _remote(root: str, setting: str) -> Store | None:
    """The store of a URI that is no folder of this machine."""
    store = Store.open(root, setting) if "://" in root else None
    return store if store is not None and store.local_path is None else None


def _cache(data: DataConfig) -> Path:
    folder = cache_folder(data)
    if folder is None:
        raise ConfigError(
            f"data.root={data.root} is copied to each node, and this user has no home folder there; name a folder of "
            "each node with --data.cache_dir"
        )
    return folder
