"""Checks before a job goes to a queue: that there is one, that it admits jobs, and that this one could ever start."""

from cluster.errors import NoSuchObjectError, SubmissionError
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import (
    CLUSTER_QUEUE,
    COHORT,
    LOCAL_QUEUE,
    NAMESPACE,
    RESOURCE_FLAVOR,
    WORKLOAD_PRIORITY_CLASS,
    Object,
    name_of,
    part,
)
from cluster.kube.queues.assignment import Pool, not_judged, require_places
from cluster.kube.queues.capacity import Capacity, why_inactive
from cluster.kube.queues.pod_sets import pod_sets_of


def check_queue(api: KubeApi, queue: str, namespace: str, ray_job: Object) -> list[str]:
    """Check that a queue could ever admit a job, and return in words what could not be judged.

    Raises SubmissionError where there is no such queue or namespace, where the queue admits nothing, or where the job
    asks for more than it could ever give.
    """
    api.require(LOCAL_QUEUE)
    local = _local_queue(api, queue, namespace)
    _require_active(local, f"queue {queue} in namespace {namespace}")
    name = str(part(local, "spec")["clusterQueue"])
    if not all(
        api.may(verb, kind) for verb, kind in (("get", CLUSTER_QUEUE), ("list", CLUSTER_QUEUE), ("list", COHORT))
    ):
        return [
            f"whether queue {queue} can ever give that much is not checked: no permission to list "
            "clusterqueues.kueue.x-k8s.io and cohorts.kueue.x-k8s.io; an admin can bind the role "
            "resnet-dist-queue-viewer (k8s/queues/admin)"
        ]
    try:
        found = api.get(CLUSTER_QUEUE, name)
    except NoSuchObjectError as error:
        raise SubmissionError(
            f"queue {queue} in namespace {namespace} belongs to ClusterQueue {name}, which is not there, so it admits "
            f"nothing; an admin makes it: resnet-dist queue create {name} --config FILE"
        ) from error
    _require_active(found, f"ClusterQueue {name} of queue {queue}")
    flavors = api.list(RESOURCE_FLAVOR) if api.may("list", RESOURCE_FLAVOR) else None
    pool = Pool(
        Capacity(api.list(CLUSTER_QUEUE), api.list(COHORT)),
        None if flavors is None else {name_of(each): each for each in flavors},
    )
    pod_sets = pod_sets_of(ray_job)
    require_places(pool, name, pod_sets)
    unknown = not_judged(found, pool, pod_sets)
    return [f"whether queue {queue} can ever start the job is judged without {', '.join(unknown)}"] if unknown else []


def check_priority(api: KubeApi, name: str) -> list[str]:
    """Check that a WorkloadPriorityClass exists; returns what could not be checked. Raises SubmissionError, which names
    those there are."""
    api.require(WORKLOAD_PRIORITY_CLASS)
    if not api.may("list", WORKLOAD_PRIORITY_CLASS):
        return [
            f"whether there is a priority {name} is not checked: no permission to list "
            "workloadpriorityclasses.kueue.x-k8s.io"
        ]
    there = {name_of(each): int(each.get("value", 0)) for each in api.list(WORKLOAD_PRIORITY_CLASS)}
    if name not in there:
        known = ", ".join(sorted(there, key=lambda each: -there[each]))
        remedy = (
            f"use one of {known}" if known else "an admin makes them: kubectl apply --server-side -k k8s/queues/admin"
        )
        raise SubmissionError(f"priority {name!r}: the cluster has no WorkloadPriorityClass of that name; {remedy}")
    return []


def _require_active(body: Object, what: str) -> None:
    reason = why_inactive(body)
    if reason is not None:
        raise SubmissionError(f"{what} admits no jobs: {reason}. Use another queue, or ask an admin to start it")


def _local_queue(api: KubeApi, queue: str, namespace: str) -> Object:
    try:
        return api.get(LOCAL_QUEUE, queue, namespace)
    except NoSuchObjectError as error:
        others = sorted(name_of(each) for each in api.list(LOCAL_QUEUE, namespace=namespace))
        if others:
            raise SubmissionError(
                f"namespace {namespace} has no queue {queue!r}; use one of {', '.join(others)}"
            ) from error
        if api.may("get", NAMESPACE, namespace):
            try:
                api.get(NAMESPACE, namespace)
            except NoSuchObjectError:
                raise SubmissionError(f"there is no namespace {namespace!r}; see kubectl get namespaces") from error
        raise SubmissionError(
            f"namespace {namespace} has no queue {queue!r} and no other; an admin makes it: "
            f"resnet-dist queue create {queue} --config FILE"
        ) from error
