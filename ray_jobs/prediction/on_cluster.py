"""`resnet-dist predict` of very many files: workers of Ray Data make parts, and a killed command goes on with them.

What a part holds is fixed before, so it does not matter who makes it, when, or how often.
"""

# ray carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import ray.data

from cluster.config import ClusterConfig
from cluster.errors import ResourceError
from cluster.session.session import cluster_resources, ray_session
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

_MOST_BLOCKS = 1000
"""Of Ray Data: what it hands out at once. Each is a row or some, of one number each."""
_SAY_EVERY_S = 10.0


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

    The bundle, the images and `parts.output` must be where every node sees them. Raises as `run_predict` does, and
    ResourceError where the workers do not fit.
    """
    if options.output_format == "table":
        raise ConfigError("--output-format table is for a terminal; parts are csv or jsonl")
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
            options=replace(options, format_name=name),
            base=base,
            output=store.uri,
            count=folder.count,
            kind=kind,
        )
        with storage_watched(store.settled(), note):
            _make(order, missing, parts.workers, cluster)
    tally = folder.tally()
    note(f"{store.uri}: {folder.count} parts")
    note(tally.summary(perf_counter() - begin, tally.images - before))
    judge(tally, options.fail_on_unreadable)
    return tally


def _make(order: WorkerOrder, missing: list[int], workers: int | None, cluster: ClusterConfig) -> None:
    with ray_session(cluster):
        cpus = cluster_resources()[0]
        count, threads = _shared(cpus, workers, order.options.threads, cluster)
        # Nobody needs more workers than there are parts.
        count = min(count, len(missing))
        order = replace(order, options=replace(order.options, threads=threads))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # It warns that there are no bars.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = ray.data.from_items(
            [{"part": number} for number in missing], override_num_blocks=min(len(missing), _MOST_BLOCKS)
        ).map_batches(
            PartWorker,
            fn_constructor_args=(order,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=threads,
        )
        _follow(rows.iter_rows(), len(missing))


def _follow(rows: Iterable[dict[str, Any]], count: int) -> None:
    reported = perf_counter()
    for number, row in enumerate(rows, 1):
        raise_error(row)
        if perf_counter() - reported > _SAY_EVERY_S:
            note(f"{number} of {count} parts made")
            reported = perf_counter()


def _shared(cpus: int, workers: int | None, threads: int | None, cluster: ClusterConfig) -> tuple[int, int]:
    """Workers, and threads of each. Raises ResourceError if they do not fit: Ray would never stop waiting."""
    each = threads or (1 if workers is None else max(cpus // workers, 1))
    count = workers or max(cpus // each, 1)
    if count * each > cpus:
        more = f" or --cluster.local-cpus {count * each}" if cluster.address is None else " or more nodes"
        raise ResourceError(
            f"--workers {count} with {each} threads each need {count * each} CPUs, and there are {cpus}; use fewer"
            f"{more}"
        )
    return count, each
