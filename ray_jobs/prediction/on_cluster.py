"""`resnet-dist predict` of very many files: workers of Ray Data make parts, and a killed command goes on with them.

What a part holds is fixed before, so it does not matter who makes it, when, or how often.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from cluster.config import ClusterConfig
from cluster.storage.outage import Patience
from cluster.storage.outage_watch import storage_watched
from cluster.storage.store import Store
from ray_jobs.errors import ConfigError
from ray_jobs.prediction.image_paths import check_paths, image_paths
from ray_jobs.prediction.parts import PartFolder
from ray_jobs.prediction.predict import STDOUT, PredictOptions, judge
from ray_jobs.prediction.tally import Tally
from ray_jobs.prediction.worker import PartWorker, WorkerOrder, raise_error
from ray_jobs.terminal.watcher import note
from resnet_dist.runtime.bundle import Bundle

_FEW_IMAGES = 1000
"""So many are answered here before a Ray has started."""


@dataclass(frozen=True)
class Parts:
    """Where parts go, how many files each has, and by how many workers; None: as many as the cluster has room for."""

    output: str
    size: int
    workers: int | None

    def __post_init__(self) -> None:
        if self.output == STDOUT:
            raise ConfigError("workers write parts; give a folder for them that all nodes see with --output")
        if not 1 <= self.size <= 1_000_000:
            raise ConfigError(f"--part-size {self.size} must lie in 1..1000000; 1000 suits most")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"--workers {self.workers} must be at least 1; leave it out to stay in this process")


def run_predict_on_cluster(
    place: Path, paths: Iterable[str], options: PredictOptions, parts: Parts, cluster: ClusterConfig
) -> Tally:
    """Write the answers to the images of `paths` as parts; those that are complete are kept.

    Few images are answered in this process, where no running Ray is named. The bundle, the images and `parts.output`
    must be where every node sees them. Raises as `run_predict` does, and
    ResourceError where the workers do not fit.
    """
    if options.output_format == "table":
        raise ConfigError("--output-format table is for a terminal; parts are csv or jsonl")
    if options.providers is not None and "cpu" not in options.providers:
        raise ConfigError(
            f"--providers {','.join(options.providers)}: workers compute on the CPU; leave it out, or leave out "
            "--workers and --cluster.address"
        )
    if options.providers is not None and options.providers[0] != "cpu":
        note("workers compute on the CPU, whatever stands before cpu in --providers")
    paths, kind = list(paths), options.output_format or "csv"
    check_paths(paths)
    bundle = Bundle.open(place, options.public_key)
    name, chosen = bundle.format(options.format_name)
    for file in chosen.files:
        bundle.read(file)  # what was changed is known before Ray starts
    store, base = Store.open(parts.output).patient(Patience.at_start(options.outage_s, note)), str(Path.cwd())
    how = {"bundle": bundle.digest, "format": name, "probabilities": options.probabilities, "relative_to": base}
    folder = PartFolder.claim(store, kind, how, image_paths(paths, sys.stdin.buffer), parts.size)
    folder = replace(folder, store=store.settled().patient(Patience(options.outage_s, note)))
    missing, begin = folder.missing(), perf_counter()
    before = folder.tally().images
    if kept := folder.count - len(missing):
        note(f"{kept} of {folder.count} parts are complete and stay")
    if missing:
        order = WorkerOrder(
            place=str(bundle.folder.absolute()),
            digest=bundle.digest,
            options=replace(options, format_name=name, providers=("cpu",)),
            base=base,
            output=store.uri,
            count=folder.count,
            kind=kind,
        )
        with storage_watched(store.settled(), note):
            if cluster.address is None and (few := _few(folder, missing)):
                note(f"fewer than {_FEW_IMAGES} images ({few}): answered in this process, no cluster is started")
                _make_here(order, missing)
            else:
                # It loads in seconds, and only if it is used.
                from ray_jobs.prediction.ray_workers import make_parts  # noqa: PLC0415

                make_parts(order, missing, parts.workers, cluster)
    tally = folder.tally()
    note(f"{store.uri}: {folder.count} parts")
    note(tally.summary(perf_counter() - begin, tally.images - before))
    judge(tally, options.fail_on_unreadable)
    return tally


def _few(folder: PartFolder, missing: list[int]) -> int:
    """How many images the missing parts have; 0 where those are not few."""
    images = 0
    for number in missing:
        images += len(folder.paths(number))
        if images >= _FEW_IMAGES:
            return 0
    return images


def _make_here(order: WorkerOrder, missing: list[int]) -> None:
    """As a worker would, part by part."""
    worker = PartWorker(order)
    for number in missing:
        row = worker({"part": np.array([number])})
        raise_error({name: values[0] for name, values in row.items()})
