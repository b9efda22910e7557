"""Waiting for the nodes of a running cluster, which start late, go away and are replaced."""

import time
from collections.abc import Callable, Sequence

from cluster.config import ClusterConfig
from cluster.errors import ResourceError
from cluster.session.nodes import NodeCapacity, node_capacities
from cluster.session.resources import WorkerPlan, plan_workers
from cluster.session.session import cluster_resources

_POLL_S = 1.0
_SAY_EVERY_S = 30.0


def require_room(plan: WorkerPlan, nodes: Sequence[NodeCapacity]) -> None:
    """Raise ResourceError unless all workers fit at once, each on one node. Other jobs on the nodes do not count."""
    fits = sum(
        min(cpus // plan.cpus_per_worker, int(gpus / plan.gpus_per_worker) if plan.use_gpu else cpus)
        for cpus, gpus in nodes
    )
    if fits < plan.num_workers:
        each = f"{plan.cpus_per_worker} CPUs" + (f" and {plan.gpus_per_worker:g} GPU" if plan.use_gpu else "")
        there = ", ".join(f"{cpus} CPUs" + (f" and {gpus:g} GPUs" if plan.use_gpu else "") for cpus, gpus in nodes)
        raise ResourceError(
            f"{plan.num_workers} workers of {each} each do not fit: there is room for {fits}, on nodes of "
            f"{there or 'nothing'}; use fewer (cluster.num_workers) or smaller ones (cluster.cpus_per_worker), or add "
            "nodes"
        )


def plan_when_there(cluster: ClusterConfig, say: Callable[[str], None]) -> WorkerPlan:
    """Share the resources of this process's Ray among the workers; on a cluster, wait until there are enough.

    `say` gets a line about each wait. Raises ResourceError after `cluster.wait_for_nodes_s`; with an embedded Ray at
    once.
    """

    def plan() -> WorkerPlan:
        found = plan_workers(cluster, *cluster_resources())
        require_room(found, node_capacities())
        return found

    return _until(plan, cluster, say)


def wait_for_room(plan: WorkerPlan, cluster: ClusterConfig, say: Callable[[str], None]) -> None:
    """On a cluster wait until its nodes have room for these workers. Raises as `plan_when_there` does."""
    _until(lambda: require_room(plan, node_capacities()) or plan, cluster, say)


def _until(look: Callable[[], WorkerPlan], cluster: ClusterConfig, say: Callable[[str], None]) -> WorkerPlan:
    began = time.monotonic()
    reported = began - _SAY_EVERY_S
    while True:
        try:
            return look()
        except ResourceError as error:
            now = time.monotonic()
            if cluster.address is None:
                raise
            if now - began >= cluster.wait_for_nodes_s:
                raise ResourceError(
                    f"{error}\nnone came within cluster.wait_for_nodes_s={cluster.wait_for_nodes_s:g}"
                ) from error
            if now - reported >= _SAY_EVERY_S:
                reported = now
                left = cluster.wait_for_nodes_s - (now - began)
                say(f"waiting for nodes, for {left:.0f} s at most: {error}")
        time.sleep(min(_POLL_S, cluster.wait_for_nodes_s))
