"""The pods of a RayJob as Kueue counts them: sets of equal pods, each with what all its pods request together."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from cluster.kube.client.kinds import Object, entries, part
from cluster.kube.queues.quantities import parsed


@dataclass(frozen=True)
class PodSet:
    """Equal pods of a job; Kueue gives all of them one flavor for each resource group."""

    name: str
    """"head", a worker group's name, or "submitter"."""
    pods: int
    requests: Mapping[str, Fraction]
    """Of all pods together, by resource; memory in bytes."""
    spec: Object
    """Of one pod."""


def pod_sets_of(ray_job: Object) -> tuple[PodSet, ...]:
    """The pod sets of a RayJob in the order in which Kueue places them.

    Source: pkg/controller/jobs/rayjob of Kueue 0.19. The pod that submits the job to Ray is one of them in K8sJobMode.
    """
    return tuple(_pod_sets(part(ray_job, "spec")))


def _pod_sets(spec: Object) -> Iterator[PodSet]:
    cluster = part(spec, "rayClusterSpec")
    yield _pod_set("head", 1, part(cluster, "headGroupSpec", "template", "spec"))
    for group in entries(cluster, "workerGroupSpecs"):
        pods = int(group.get("replicas", 1)) * int(group.get("numOfHosts", 1))
        yield _pod_set(str(group.get("groupName", "")), pods, part(group, "template", "spec"))
    if spec.get("submissionMode", "K8sJobMode") == "K8sJobMode":
        yield _pod_set("submitter", 1, part(spec, "submitterPodTemplate", "spec"))


def _pod_set(name: str, pods: int, spec: Object) -> PodSet:
    return PodSet(name, pods, {resource: pods * amount for resource, amount in _of_pod(spec).items()}, spec)


def _of_pod(spec: Object) -> dict[str, Fraction]:
    """What a pod requests: its containers together, or one of its init containers where that takes more."""
    together: defaultdict[str, Fraction] = defaultdict(Fraction)
    for container in entries(spec, "containers"):
        for resource, amount in _of_container(container).items():
            together[resource] += amount
    for container in entries(spec, "initContainers"):
        for resource, amount in _of_container(container).items():
            together[resource] = max(together[resource], amount)
    for resource, amount in part(spec, "overhead").items():
        together[resource] += parsed(amount)
    return dict(together)


def _of_container(container: Object) -> dict[str, Fraction]:
    """A limit without a request is a request, too."""
    resources = part(container, "resources")
    named = {**part(resources, "limits"), **part(resources, "requests")}
    return {resource: parsed(amount) for resource, amount in named.items()}
