"""Views of jobs: their RayJobs together with the pods, events and Workloads that say what keeps them from running."""

from collections.abc import Iterable, Sequence

from cluster.jobs import JobView
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import EVENT, POD, WORKLOAD, Object, entries, name_of, part
from cluster.kube.jobs.states import JOB_LABEL, NAME_LABEL, QUEUE_LABEL, JobObjects, view_of
from cluster.kube.queues.workloads import queue_of, waiting_in_order

OURS = {NAME_LABEL: "resnet-dist"}
"""The labels of all objects of our jobs."""
_CLUSTER_LABEL = "ray.io/cluster"


def views_of(api: KubeApi, jobs: Sequence[Object]) -> list[JobView]:
    """Each RayJob's view, in the order of the jobs.

    Pods, events and Workloads are listed once each, however many jobs there are; not at all where every job is done or
    stopped, which its RayJob alone shows.
    """
    alone = [view_of(JobObjects(job)) for job in jobs]
    names = {view.name for view in alone if not _is_settled(view)}
    if not names:
        return alone
    pods = api.list(POD, OURS if len(names) > 1 else {JOB_LABEL: next(iter(names))})
    events = api.list(EVENT)
    workloads = api.list(WORKLOAD) if any(view.queue and not _is_settled(view) for view in alone) else []
    return [
        view if _is_settled(view) else view_of(_objects_of(job, view, pods, events, workloads))
        for job, view in zip(jobs, alone, strict=True)
    ]


def owner_uids(body: Object) -> list[str]:
    """Uids of the objects that an object is deleted with."""
    return [str(each.get("uid")) for each in entries(body["metadata"], "ownerReferences")]


def _is_settled(view: JobView) -> bool:
    return view.state in ("done", "stopped")


def _objects_of(
    job: Object, view: JobView, pods: Iterable[Object], events: Iterable[Object], workloads: Sequence[Object]
) -> JobObjects:
    """A job's own among the namespace's objects."""
    cluster = str(part(job, "status").get("rayClusterName") or "")
    mine: list[Object] = []
    for pod in pods:
        labels = part(pod, "metadata", "labels")
        # Pods of an earlier attempt are in another cluster; the pod that submits is in none.
        if labels.get(JOB_LABEL) == view.name and labels.get(_CLUSTER_LABEL, cluster) == cluster:
            mine.append(pod)
    about = {view.name, cluster, *map(name_of, mine)}
    related = tuple(event for event in events if part(event, "involvedObject").get("name") in about)
    workload, position = _in_queue(job, workloads) if view.queue else (None, None)
    return JobObjects(job, tuple(mine), related, workload, position)


def _in_queue(job: Object, workloads: Sequence[Object]) -> tuple[Object | None, int | None]:
    """Kueue's object for a job, and how many the queue admits before it."""
    uid, queue = str(job["metadata"]["uid"]), str(job["metadata"]["labels"][QUEUE_LABEL])
    mine = next((each for each in workloads if uid in owner_uids(each)), None)
    in_turn = waiting_in_order(each for each in workloads if queue_of(each) == queue)
    return mine, in_turn.index(mine) if mine is not None and mine in in_turn else None
