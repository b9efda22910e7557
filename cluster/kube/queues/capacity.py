"""The most that a queue can ever give a job, and whether a job asks for more."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

from cluster.errors import NoSuchObjectError, SubmissionError
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import (
    CLUSTER_QUEUE,
    COHORT,
    LOCAL_QUEUE,
    NAMESPACE,
    WORKLOAD_PRIORITY_CLASS,
    Object,
    name_of,
)
from cluster.kube.queues.quantities import CPU, GPU, MEMORY, UNITS, in_units, in_words, parsed

_RESOURCES = {"gpus": GPU, "cpus": CPU, "memory_gib": MEMORY}


@dataclass(frozen=True)
class Limits:
    """A queue's or cohort's quota of one resource in one flavor."""

    nominal: Fraction = Fraction(0)
    borrowing: Fraction | None = None
    """None: no limit."""
    lending: Fraction | None = None
    """None: no limit."""


@dataclass
class _Node:
    """A queue or cohort in the tree of those that borrow from each other."""

    parent: str | None
    quotas: dict[tuple[str, str], Limits]
    """By flavor and resource."""
    children: list["_Node"] = field(default_factory=list["_Node"])

    def total(self, key: tuple[str, str]) -> Fraction:
        """Its own, and what those below it put into it."""
        below = sum((each.total(key) - each.kept(key) for each in self.children), Fraction(0))
        return self.quotas.get(key, Limits()).nominal + below

    def kept(self, key: tuple[str, str]) -> Fraction:
        """What it lends nobody."""
        lending = self.quotas.get(key, Limits()).lending
        return Fraction(0) if lending is None else max(Fraction(0), self.total(key) - lending)


class Capacity:
    """What queues own, lend and may borrow, as Kueue reckons it, nested cohorts included."""

    def __init__(self, queues: Iterable[Object], cohorts: Iterable[Object]) -> None:
        cohorts = list(cohorts)
        parents = {name_of(each): _spec(each).get("parentName") for each in cohorts}
        self._cohorts = {
            name_of(each): _Node(_parent_outside_circles(name_of(each), parents), dict(quotas_of(each)))
            for each in cohorts
        }
        self._queues = {name_of(each): _Node(_spec(each).get("cohortName"), dict(quotas_of(each))) for each in queues}
        for node in [*self._queues.values(), *self._cohorts.values()]:
            if node.parent is not None:
                # A cohort is a name; there need be no object for it.
                self._cohorts.setdefault(node.parent, _Node(None, {})).children.append(node)

    def limits(self, queue: str, flavor: str, resource: str) -> Limits:
        """A queue's own quota."""
        return self._queues[queue].quotas.get((flavor, resource), Limits())

    def pairs(self, queue: str) -> tuple[tuple[str, str], ...]:
        """The flavors and resources of a queue, in its order; it can borrow no others."""
        return tuple(self._queues[queue].quotas)

    def most(self, queue: str, flavor: str, resource: str) -> Fraction:
        """The most of a resource in a flavor that a queue could have if nobody used any."""
        return self._most(self._queues[queue], (flavor, resource))

    def root(self, queue: str) -> str | None:
        """The cohort at the top of a queue's tree; None for a queue that is alone."""
        parent = self._queues[queue].parent
        return None if parent is None else self._top(parent)

    def of_cohorts(self, root: str, flavor: str, resource: str) -> Fraction:
        """The quota that belongs to the cohorts themselves, below and with the one at the top of a tree."""
        nodes = [node for name, node in self._cohorts.items() if self._top(name) == root]
        return sum((node.quotas.get((flavor, resource), Limits()).nominal for node in nodes), Fraction(0))

    def _top(self, cohort: str) -> str:
        while (above := self._cohorts[cohort].parent) is not None:
            cohort = above
        return cohort

    def _most(self, node: _Node, key: tuple[str, str]) -> Fraction:
        if node.parent is None:
            return node.total(key)
        found = node.kept(key) + self._most(self._cohorts[node.parent], key)
        borrowing = node.quotas.get(key, Limits()).borrowing
        return found if borrowing is None else min(found, node.total(key) + borrowing)


def _parent_outside_circles(cohort: str, parents: Mapping[str, str | None]) -> str | None:
    """A cohort's parent; none within a circle, in which Kueue stops all queues anyway."""
    above, seen = parents[cohort], set[str]()
    while above is not None and above not in seen:
        if above == cohort:
            return None
        seen.add(above)
        above = parents.get(above)
    return parents[cohort]


def quotas_of(body: Object) -> Iterator[tuple[tuple[str, str], Limits]]:
    """The quotas of a ClusterQueue or Cohort, by flavor and resource."""
    for group in _spec(body).get("resourceGroups") or ():
        for flavor in group["flavors"]:
            for each in flavor["resources"]:
                limits = (each.get(name) for name in ("borrowingLimit", "lendingLimit"))
                borrowing, lending = (None if limit is None else parsed(limit) for limit in limits)
                yield (str(flavor["name"]), str(each["name"])), Limits(parsed(each["nominalQuota"]), borrowing, lending)


def fits(api: KubeApi, queue: str, namespace: str, requested: Mapping[str, float]) -> str | None:
    """Check that a queue could ever admit a job that asks for `requested` ("gpus", "cpus", "memory_gib", in all).

    Returns what could not be checked for want of permission, if anything; Kueue decides then, and the job waits for
    ever if it is too large. Raises SubmissionError where there is no such queue or namespace, where the queue admits
    nothing, or where it is asked for more than it could ever give.
    """
    api.require(LOCAL_QUEUE)
    local = _local_queue(api, queue, namespace)
    _require_active(local, f"queue {queue} in namespace {namespace}")
    name = str(_spec(local)["clusterQueue"])
    if not all(
        api.may(verb, kind) for verb, kind in (("get", CLUSTER_QUEUE), ("list", CLUSTER_QUEUE), ("list", COHORT))
    ):
        return (
            f"whether queue {queue} can ever give that much is not checked: no permission to list "
            "clusterqueues.kueue.x-k8s.io and cohorts.kueue.x-k8s.io; an admin can bind the role "
            "resnet-dist-queue-viewer (k8s/queues/admin)"
        )
    try:
        found = api.get(CLUSTER_QUEUE, name)
    except NoSuchObjectError as error:
        raise SubmissionError(
            f"queue {queue} in namespace {namespace} belongs to ClusterQueue {name}, which is not there, so it admits "
            f"nothing; an admin makes it: resnet-dist queue create {name} --config FILE"
        ) from error
    _require_active(found, f"ClusterQueue {name} of queue {queue}")
    require_room(Capacity(api.list(CLUSTER_QUEUE), api.list(COHORT)), name, requested)
    return None


def require_room(capacity: Capacity, name: str, requested: Mapping[str, float]) -> None:
    """Raises SubmissionError where a job asks for more than a ClusterQueue could give if nobody used any."""
    pairs = capacity.pairs(name)
    problems: list[str] = []
    for key, resource in _RESOURCES.items():
        amount = Fraction(requested.get(key, 0.0)) * (1024**3 if resource == MEMORY else 1)
        flavors = [flavor for flavor, each in pairs if each == resource]
        if amount == 0:
            continue
        if not flavors:
            problems.append(f"{in_words(resource, amount)}, and queue {name} has no quota of {UNITS[resource]} at all")
            continue
        most = {flavor: capacity.most(name, flavor, resource) for flavor in flavors}
        # Workers are pods of one kind, and those get all their GPUs from one flavor; the head may sit elsewhere.
        there = max(most.values()) if resource == GPU else sum(most.values(), Fraction(0))
        if amount > there:
            problems.append(
                f"{in_words(resource, amount)}, and queue {name} can never give "
                f"{_stated(capacity, name, most, resource)}"
            )
    if problems:
        raise SubmissionError(
            f"the job asks for {'; for '.join(problems)}. Use fewer or smaller workers (cluster.num_workers, "
            "cluster.cpus_per_worker, cluster.memory_per_worker_gib) or another queue (`resnet-dist queue show` lists "
            "them), or let an admin raise the quota (`resnet-dist queue create`)"
        )


def check_priority(api: KubeApi, name: str) -> str | None:
    """Check that a WorkloadPriorityClass exists; returns what could not be checked. Raises SubmissionError, which names
    those there are."""
    api.require(WORKLOAD_PRIORITY_CLASS)
    if not api.may("list", WORKLOAD_PRIORITY_CLASS):
        return (
            f"whether there is a priority {name} is not checked: no permission to list "
            "workloadpriorityclasses.kueue.x-k8s.io"
        )
    there = {name_of(each): int(each.get("value", 0)) for each in api.list(WORKLOAD_PRIORITY_CLASS)}
    if name not in there:
        known = ", ".join(sorted(there, key=lambda each: -there[each]))
        remedy = (
            f"use one of {known}" if known else "an admin makes them: kubectl apply --server-side -k k8s/queues/admin"
        )
        raise SubmissionError(f"priority {name!r}: the cluster has no WorkloadPriorityClass of that name; {remedy}")
    return None


def why_inactive(body: Object) -> str | None:
    """Why a queue admits nothing; None where it admits."""
    policy = str(_spec(body).get("stopPolicy") or "None")
    if policy != "None":
        return f"it is stopped (stopPolicy {policy})"
    for condition in cast("list[Object]", body.get("status", {}).get("conditions") or ()):
        if condition.get("type") == "Active" and condition.get("status") == "False":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return None


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


def _stated(capacity: Capacity, name: str, most: Mapping[str, Fraction], resource: str) -> str:
    """What there could be, flavor by flavor, and where it comes from."""
    parts: list[str] = []
    for flavor, amount in most.items():
        if amount:
            borrowed = amount - capacity.limits(name, flavor, resource).nominal
            loan = f", {in_units(resource, borrowed):g} of them borrowed" if borrowed else ""
            parts.append(f"{in_words(resource, amount)} of {flavor}{loan}")
    together = " in one flavor" if resource == GPU and len(parts) > 1 else ""
    return f"more than {' and '.join(parts)}{together}" if parts else "any"


def _spec(body: Object) -> dict[str, Any]:
    return cast("dict[str, Any]", body.get("spec") or {})
