"""The parts of a prediction, made by processes of Ray."""

# ray carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import logging
from collections.abc import Iterable
from dataclasses import replace
from time import perf_counter
from typing import Any

import ray.data

from cluster.config import ClusterConfig
from cluster.errors import ResourceError
from cluster.session.session import cluster_resources, ray_session
from ray_jobs.prediction.worker import PartWorker, WorkerOrder, raise_error
from ray_jobs.terminal.watcher import note

_MOST_BLOCKS = 1000
"""Of Ray Data: what it hands out at once. Each is a row or some, of one number each."""
_SAY_EVERY_S = 10.0


def make_parts(order: WorkerOrder, missing: list[int], workers: int | None, cluster: ClusterConfig) -> None:
    """Have the missing parts made by processes of Ray. Raises ResourceError where they do not fit."""
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
