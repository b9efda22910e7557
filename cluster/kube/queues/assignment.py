"""Whether a queue could ever give a job its places, decided as Kueue does: each pod set gets one flavor for each
resource group, within quota and loans."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cluster.errors import SubmissionError
from cluster.kube.client.kinds import Object, entries, name_of, part
from cluster.kube.queues.capacity import Capacity, ResourceGroup
from cluster.kube.queues.pod_sets import PodSet
from cluster.kube.queues.quantities import GPU, UNITS, in_units, in_words

_PODS = "pods"
"""A resource that Kueue counts by itself where a queue has a quota of it."""
_JUDGED_OF_QUEUE = {
    *("resourceGroups", "cohortName", "namespaceSelector", "queueingStrategy", "preemption", "flavorFungibility"),
    *("stopPolicy", "fairSharing"),
}
_JUDGED_OF_FLAVOR = {"nodeLabels", "nodeTaints", "tolerations"}
_REPELLING = {"NoSchedule", "NoExecute"}
_REMEDY = (
    "Use fewer or smaller workers (cluster.num_workers, cluster.cpus_per_worker, cluster.memory_per_worker_gib) or "
    "another queue (`resnet-dist queue show` lists them), or let an admin raise the quota (`resnet-dist queue create`)"
)


@dataclass(frozen=True)
class Pool:
    """What there is to give."""

    capacity: Capacity
    flavors: Mapping[str, Object] | None
    """ResourceFlavors by name; None where they may not be read: then each suits every pod."""

    def suits(self, flavor: str, pod: PodSet, group: ResourceGroup) -> str:
        """Why a flavor's nodes do not take a pod; empty where they do."""
        if self.flavors is None:
            return ""
        if flavor not in self.flavors:
            return "there is no such ResourceFlavor"
        spec = part(self.flavors[flavor], "spec")
        tolerated = [*entries(pod.spec, "tolerations"), *entries(spec, "tolerations")]
        for taint in entries(spec, "nodeTaints"):
            if taint.get("effect") in _REPELLING and not any(_tolerates(each, taint) for each in tolerated):
                return f"its pods do not tolerate the taint {taint.get('key')}={taint.get('value', '')}"
        labels = part(spec, "nodeLabels")
        known = {key for each in group.flavors for key in part(self.flavors.get(each, {}), "spec", "nodeLabels")}
        for key, value in part(pod.spec, "nodeSelector").items():
            if key in known and labels.get(key) != value:
                return f"its pods select nodes with {key}={value}"
        return ""


def require_places(pool: Pool, queue: str, pod_sets: Sequence[PodSet]) -> None:
    """Raise SubmissionError where a queue could not give a job its places even if nobody used any, with the numbers.

    Source: pkg/scheduler/flavorassigner of Kueue 0.19. Kueue takes the first flavor that fits a pod set, and goes on
    with the next ones in a later try; so a job is refused only where no choice of flavors fits all its pod sets.
    """
    problems = list(_uncovered(pool.capacity, queue, pod_sets))
    for group in pool.capacity.groups(queue):
        shares = [(each, _requests(each, group)) for each in pod_sets]
        problem = _problem(pool, queue, group, [(each, requests) for each, requests in shares if requests])
        problems += [problem] if problem else []
    if problems:
        raise SubmissionError(f"the job can never start in queue {queue}: {'; '.join(problems)}. {_REMEDY}")


def not_judged(queue: Object, pool: Pool, pod_sets: Iterable[PodSet]) -> list[str]:
    """What may still keep a job from its places, in words: fields of Kueue's objects that nothing here looks at."""
    found = [f"{field} of ClusterQueue {name_of(queue)}" for field in _unknown(queue, _JUDGED_OF_QUEUE)]
    if pool.flavors is None:
        found.append("taints and labels of the flavors (no permission to list resourceflavors.kueue.x-k8s.io)")
    named = {flavor for group in pool.capacity.groups(name_of(queue)) for flavor in group.flavors}
    for name, flavor in sorted((pool.flavors or {}).items()):
        if name in named:
            found += [f"{field} of flavor {name}" for field in _unknown(flavor, _JUDGED_OF_FLAVOR)]
    if any(part(each.spec, "affinity", "nodeAffinity") for each in pod_sets):
        found.append("the pods' node affinity")
    return found


def _unknown(body: Object, judged: set[str]) -> list[str]:
    return sorted({*part(body, "spec")} - judged)


def _uncovered(capacity: Capacity, queue: str, pod_sets: Iterable[PodSet]) -> Iterator[str]:
    covered = {resource for group in capacity.groups(queue) for resource in group.resources}
    together: defaultdict[str, Fraction] = defaultdict(Fraction)
    for each in pod_sets:
        for resource, amount in each.requests.items():
            together[resource] += amount
    for resource, amount in together.items():
        if amount and resource not in covered:
            quota = f"no quota of {UNITS.get(resource, resource)}"
            yield f"it asks for {in_words(resource, amount)}, and the queue has {quota}"


def _requests(pod_set: PodSet, group: ResourceGroup) -> dict[str, Fraction]:
    """What a pod set asks of a resource group."""
    counted = {**pod_set.requests, _PODS: Fraction(pod_set.pods)}
    return {name: amount for name, amount in counted.items() if name in group.resources and amount}


def _problem(
    pool: Pool, queue: str, group: ResourceGroup, shares: Sequence[tuple[PodSet, Mapping[str, Fraction]]]
) -> str:
    """Why a resource group cannot give these pod sets their shares; empty where it can."""

    def places(left: Sequence[tuple[PodSet, Mapping[str, Fraction]]], used: Mapping[tuple[str, str], Fraction]) -> bool:
        if not left:
            return True
        (pod_set, requests), *others = left
        for flavor in group.flavors:
            if pool.suits(flavor, pod_set, group):
                continue
            sums = {(flavor, name): used.get((flavor, name), Fraction(0)) + amount for name, amount in requests.items()}
            fits = all(amount <= pool.capacity.most(queue, *key) for key, amount in sums.items())
            if fits and places(others, {**used, **sums}):
                return True
        return False

    if places(shares, {}):
        return ""
    for pod_set, requests in shares:
        if not places([(pod_set, requests)], {}):
            return (
                f"its {_named(pod_set)} for {_amounts(requests)}, and {_offers(pool, queue, group, pod_set, requests)}"
            )
    whole: defaultdict[str, Fraction] = defaultdict(Fraction)
    for _, requests in shares:
        for name, amount in requests.items():
            whole[name] += amount
    each = ", ".join(f"{pod_set.name} {_amounts(requests)}" for pod_set, requests in shares)
    there = _offers(pool, queue, group, None, whole)
    return f"its pods ask for {_amounts(whole)} together ({each}), each set of them in one flavor, and {there}"


def _named(pod_set: PodSet) -> str:
    return f"pod set {pod_set.name} asks" if pod_set.pods == 1 else f"{pod_set.pods} pods of {pod_set.name} ask"


def _amounts(requests: Mapping[str, Fraction]) -> str:
    ordered = sorted(requests, key=lambda name: (name != GPU, name))
    return " and ".join(in_words(name, requests[name]) for name in ordered)


def _offers(
    pool: Pool, queue: str, group: ResourceGroup, pod_set: PodSet | None, wanted: Mapping[str, Fraction]
) -> str:
    """What each flavor could give at most, or why it gives nothing."""
    parts: list[str] = []
    for flavor in group.flavors:
        why = "" if pod_set is None else pool.suits(flavor, pod_set, group)
        parts.append(f"flavor {flavor} takes none: {why}" if why else _offer(pool.capacity, queue, flavor, wanted))
    return ", ".join(parts) or "the queue has no flavor"


def _offer(capacity: Capacity, queue: str, flavor: str, wanted: Mapping[str, Fraction]) -> str:
    words: list[str] = []
    for resource in sorted(wanted, key=lambda name: (name != GPU, name)):
        most = capacity.most(queue, flavor, resource)
        borrowed = most - capacity.limits(queue, flavor, resource).nominal
        loan = f" ({in_units(resource, borrowed):g} of them borrowed)" if borrowed > 0 else ""
        words.append(f"{in_words(resource, most)}{loan}")
    return f"flavor {flavor} can give at most {' and '.join(words)}"


def _tolerates(toleration: Object, taint: Object) -> bool:
    """As Kubernetes has it (core/v1 Toleration.ToleratesTaint)."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")
