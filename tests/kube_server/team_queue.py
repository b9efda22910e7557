"""A team's queue in a test's cluster."""

from cluster.kube.client.kinds import (
    CLUSTER_QUEUE,
    LOCAL_QUEUE,
    RESOURCE_FLAVOR,
    WORKLOAD_PRIORITY_CLASS,
    Kind,
    Object,
)
from tests.kube_server.server import KubeServer
from tests.kube_server.store import WriteOptions


def add_queue(server: KubeServer, gpus: int = 8, cpus: str = "64") -> None:
    """Team vision's queue, with that many GPUs and CPUs."""
    amounts = {"cpu": cpus, "memory": "512Gi", "nvidia.com/gpu": str(gpus)}
    flavor = {"name": "h100", "resources": [{"name": name, "nominalQuota": each} for name, each in amounts.items()]}
    groups = [{"coveredResources": list(amounts), "flavors": [flavor]}]
    put(server, CLUSTER_QUEUE, "vision", {"spec": {"resourceGroups": groups, "namespaceSelector": {}}})
    put(server, RESOURCE_FLAVOR, "h100", {"spec": {}})
    put(server, LOCAL_QUEUE, "vision", {"spec": {"clusterQueue": "vision"}})
    put(server, WORKLOAD_PRIORITY_CLASS, "research", {"value": 100})


def put(server: KubeServer, kind: Kind, name: str, body: Object) -> None:
    space = "vision" if kind.namespaced else ""
    meta = {"name": name} | ({"namespace": space} if space else {})
    server.store.create(
        kind, space, {"apiVersion": kind.api_version, "kind": kind.name, "metadata": meta, **body}, WriteOptions()
    )
