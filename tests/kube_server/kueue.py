"""How Kueue decides about a RayJob, in small: pod sets, one flavor for each resource group, quota, loans in a cohort.

It knows neither preemption nor taints, and shares no code with what `submit` judges by. Messages are Kueue's own.
"""

from collections import Counter
from fractions import Fraction
from typing import Any

from cluster.kube.client.kinds import CLUSTER_QUEUE, LOCAL_QUEUE, WORKLOAD, Object
from tests.kube_server.store import ObjectStore

_UNITS = {"m": Fraction(1, 1000), "": Fraction(1), "Mi": Fraction(2**20), "Gi": Fraction(2**30)}
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

Usage = Counter[tuple[str, str]]
"""Amounts by flavor and resource."""


def pod_sets_of(job: Object) -> list[Object]:
    """The pod sets of a RayJob's Workload: the head, each group of workers, and the pod that submits."""
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    sets = [("head", 1, cluster["headGroupSpec"]["template"])]
    sets += [(each["groupName"], each.get("replicas", 1), each["template"]) for each in cluster["workerGroupSpecs"]]
    if spec.get("submissionMode", "K8sJobMode") == "K8sJobMode":
        sets.append(("submitter", 1, spec.get("submitterPodTemplate", {"spec": {"containers": []}})))
    return [{"name": name, "count": count, "template": template} for name, count, template in sets]


def decision(store: ObjectStore, job: Object, workload: Object) -> Object | str:
    """The admission of a Workload, or why there is none."""
    space, name = job["metadata"]["namespace"], job["metadata"]["labels"][_QUEUE_LABEL]
    queue_name = store.get(LOCAL_QUEUE, space, name)["spec"]["clusterQueue"]
    queue = store.get(CLUSTER_QUEUE, "", queue_name)
    used = {each["metadata"]["name"]: _used(store, each) for each in store.objects(CLUSTER_QUEUE)}
    cohort = [each for each in store.objects(CLUSTER_QUEUE) if _is_lender(queue, each)]
    mine, assignments = Usage(), list[Object]()
    for pod_set in workload["spec"]["podSets"]:
        asked = requests_of(pod_set)
        flavors: dict[str, str] = {}
        for group in queue["spec"]["resourceGroups"]:
            wanted = {each: asked[each] for each in group["coveredResources"] if asked[each]}
            problem = ""
            for flavor in group["flavors"] if wanted else ():
                problem = _problem(flavor, wanted, queue, cohort, used, mine)
                if not problem:
                    flavors |= dict.fromkeys(wanted, flavor["name"])
                    mine.update({(flavor["name"], each): amount for each, amount in wanted.items()})
                    break
            if problem:
                return f"couldn't assign flavors to pod set {pod_set['name']}: {problem}"
        assignments.append(
            {
                "name": pod_set["name"],
                "count": pod_set["count"],
                "flavors": flavors,
                "resourceUsage": {each: str(float(asked[each])) for each in flavors},
            }
        )
    return {"clusterQueue": queue_name, "podSetAssignments": assignments}


def requests_of(pod_set: Object) -> Counter[str]:
    """What all pods of a pod set request."""
    found: Counter[str] = Counter()
    for container in pod_set["template"]["spec"]["containers"]:
        for name, amount in container.get("resources", {}).get("requests", {}).items():
            found[name] += amount_of(amount) * pod_set["count"]
    return found


def amount_of(text: Any) -> Fraction:
    """A quantity as a number."""
    digits = str(text).rstrip("mMGi")
    return Fraction(digits) * _UNITS[str(text)[len(digits) :]]


def _problem(
    flavor: Object,
    wanted: dict[str, Fraction],
    queue: Object,
    cohort: list[Object],
    used: dict[str, Usage],
    mine: Usage,
) -> str:
    name = flavor["name"]
    for resource, amount in wanted.items():
        before = mine[(name, resource)]
        own, limit = _quota(queue, name, resource)
        lent = sum((_quota(each, name, resource)[0] for each in cohort), Fraction(0))
        most = own + min(lent, lent if limit is None else limit)
        if before + amount > most:
            return (
                f"insufficient quota for {resource} in flavor {name}, previously considered podsets requests "
                f"({_shown(before)}) + current podset request ({_shown(amount)}) > maximum capacity ({_shown(most)})"
            )
        others = sum((used[each["metadata"]["name"]][(name, resource)] for each in cohort), Fraction(0))
        own_used = used[queue["metadata"]["name"]][(name, resource)] + before
        free = min(most - own_used, own + lent - own_used - others)
        if amount > free:
            lacking = _shown(amount - max(free, Fraction(0)))
            return f"insufficient unused quota for {resource} in flavor {name}, {lacking} more needed"
    return ""


def _quota(queue: Object, flavor: str, resource: str) -> tuple[Fraction, Fraction | None]:
    """The nominal quota, and the borrowing limit where there is one."""
    for group in queue["spec"]["resourceGroups"]:
        for each in group["flavors"]:
            for quota in each["resources"] if each["name"] == flavor else ():
                if quota["name"] == resource:
                    limit = quota.get("borrowingLimit")
                    return amount_of(quota["nominalQuota"]), None if limit is None else amount_of(limit)
    return Fraction(0), Fraction(0)


def _is_lender(queue: Object, other: Object) -> bool:
    cohort = queue["spec"].get("cohortName")
    is_other = other["metadata"]["name"] != queue["metadata"]["name"]
    return bool(cohort) and is_other and other["spec"].get("cohortName") == cohort


def _used(store: ObjectStore, queue: Object) -> Usage:
    used: Usage = Counter()
    for workload in store.objects(WORKLOAD):
        admission = workload.get("status", {}).get("admission") or {}
        if admission.get("clusterQueue") == queue["metadata"]["name"]:
            for each in admission["podSetAssignments"]:
                usage = each["resourceUsage"].items()
                used.update({(each["flavors"][name], name): amount_of(amount) for name, amount in usage})
    return used


def _shown(amount: Fraction) -> str:
    return f"{float(amount):g}"
