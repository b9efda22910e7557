"""What queues own, lend and may borrow, and the most that each could ever have."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

from cluster.kube.client.kinds import Object, entries, name_of
from cluster.kube.queues.quantities import parsed


@dataclass(frozen=True)
class Limits:
    """A queue's or cohort's quota of one resource in one flavor."""

    nominal: Fraction = Fraction(0)
    borrowing: Fraction | None = None
    """None: no limit."""
    lending: Fraction | None = None
    """None: no limit."""


@dataclass(frozen=True)
class ResourceGroup:
    """Resources of which a pod set gets all from one flavor."""

    resources: frozenset[str]
    flavors: tuple[str, ...]
    """In the order in which Kueue tries them."""


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
        queues, cohorts = list(queues), list(cohorts)
        parents = {name_of(each): _spec(each).get("parentName") for each in cohorts}
        self._cohorts = {
            name_of(each): _Node(_parent_outside_circles(name_of(each), parents), dict(quotas_of(each)))
            for each in cohorts
        }
        self._queues = {name_of(each): _Node(_spec(each).get("cohortName"), dict(quotas_of(each))) for each in queues}
        self._groups = {name_of(each): tuple(_groups_of(each)) for each in queues}
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

    def groups(self, queue: str) -> tuple[ResourceGroup, ...]:
        """A queue's resource groups."""
        return self._groups[queue]

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


def _groups_of(body: Object) -> Iterator[ResourceGroup]:
    for group in entries(_spec(body), "resourceGroups"):
        flavors = entries(group, "flavors")
        resources = {str(each["name"]) for flavor in flavors for each in entries(flavor, "resources")}
        yield ResourceGroup(frozenset(resources), tuple(str(each["name"]) for each in flavors))


def why_inactive(body: Object) -> str | None:
    """Why a queue admits nothing; None where it admits."""
    policy = str(_spec(body).get("stopPolicy") or "None")
    if policy != "None":
        return f"it is stopped (stopPolicy {policy})"
    for condition in cast("list[Object]", body.get("status", {}).get("conditions") or ()):
        if condition.get("type") == "Active" and condition.get("status") == "False":
            return f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
    return None


def _spec(body: Object) -> dict[str, Any]:
    return cast("dict[str, Any]", body.get("spec") or {})
