"""Kueue's Workloads, one for each job in a queue: how far each has come and what it asks for."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Literal, cast

from cluster.kube.client.kinds import Object, entries, name_of, part
from cluster.kube.queues.quantities import parsed

Stage = Literal["running", "reserved", "waiting", "stopped"]


def waiting_in_order(workloads: Iterable[Object]) -> list[Object]:
    """The Workloads that wait, in the order in which Kueue tries them: by priority, then by age."""
    waiting = [each for each in workloads if stage_of(each) == "waiting"]
    return sorted(waiting, key=lambda each: (-priority_of(each), created_of(each), name_of(each)))


def stage_of(workload: Object) -> Stage:
    """How far an unfinished Workload has come."""
    if part(workload, "spec").get("active") is False:
        return "stopped"
    if condition_is_true(workload, "Finished"):
        return "stopped"
    if condition_is_true(workload, "Admitted"):
        return "running"
    return "reserved" if condition_is_true(workload, "QuotaReserved") else "waiting"


def priority_of(workload: Object) -> int:
    """A Workload's priority; without a class it is 0."""
    return int(part(workload, "spec").get("priority") or 0)


def queue_of(workload: Object) -> str:
    """The LocalQueue that a Workload waits in."""
    return str(part(workload, "spec").get("queueName", ""))


def job_of(workload: Object) -> str:
    """The name of the job that a Workload stands for; its own where it stands for none."""
    owners = cast("list[Object]", part(workload, "metadata").get("ownerReferences") or [])
    return str(owners[0]["name"]) if owners else name_of(workload)


def created_of(workload: Object) -> str:
    """When it came into the queue: UTC time, ISO 8601."""
    return str(part(workload, "metadata").get("creationTimestamp", ""))


def condition_is_true(workload: Object, condition: str) -> bool:
    """Whether a condition of a Workload is true."""
    return part(conditions_of(workload), condition).get("status") == "True"


def conditions_of(workload: Object) -> dict[str, Object]:
    """The conditions of a Workload by type."""
    return {str(each.get("type")): each for each in entries(part(workload, "status"), "conditions")}


def requests_of(workload: Object) -> dict[str, Fraction]:
    """What all pods of a Workload ask for, as Kueue counts it, or, before it has, as the pods state it."""
    status = part(workload, "status")
    counted = [
        *(part(each, "resourceUsage") for each in entries(part(status, "admission"), "podSetAssignments")),
    ] or [part(each, "resources") for each in entries(status, "resourceRequests")]
    total: dict[str, Fraction] = {}
    for each in counted:
        for name, amount in each.items():
            total[name] = total.get(name, Fraction(0)) + parsed(amount)
    if counted:
        return total
    for pods in entries(part(workload, "spec"), "podSets"):
        for container in entries(part(part(pods, "template"), "spec"), "containers"):
            for name, amount in part(part(container, "resources"), "requests").items():
                total[name] = total.get(name, Fraction(0)) + parsed(amount) * int(pods.get("count", 1))
    return total
