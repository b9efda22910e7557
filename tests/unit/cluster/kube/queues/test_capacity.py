"""The most that a queue could ever have."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.kube.queues.capacity import Capacity
from cluster.kube.queues.quantities import GPU

LIMIT = st.one_of(st.none(), st.integers(0, 20))
QUOTA = st.tuples(st.integers(0, 20), LIMIT, LIMIT)
"""Nominal, borrowing and lending."""


def group(flavor: str, resource: str, quota: tuple[int, int | None, int | None]) -> dict[str, Any]:
    named = zip(("nominalQuota", "borrowingLimit", "lendingLimit"), quota, strict=True)
    limits = {name: str(value) for name, value in named if value is not None}
    return {"coveredResources": [resource], "flavors": [{"name": flavor, "resources": [{"name": resource} | limits]}]}


def queue(name: str, cohort: str | None, *groups: dict[str, Any]) -> dict[str, Any]:
    spec = {"resourceGroups": list(groups)} | ({} if cohort is None else {"cohortName": cohort})
    return {"metadata": {"name": name}, "spec": spec}


def cohort(name: str, parent: str | None, *groups: dict[str, Any]) -> dict[str, Any]:
    spec = {"resourceGroups": list(groups)} | ({} if parent is None else {"parentName": parent})
    return {"metadata": {"name": name}, "spec": spec}


@given(st.lists(QUOTA, min_size=1, max_size=5))
def test_in_a_cohort_a_queue_has_its_own_and_what_others_lend_up_to_its_limit(
    quotas: list[tuple[int, int | None, int | None]],
) -> None:
    queues = [queue(f"q{at}", "c", group("a", GPU, quota)) for at, quota in enumerate(quotas)]
    capacity = Capacity(queues, [])
    for at, (own, borrowing, _) in enumerate(quotas):
        lent = sum(
            nominal if lending is None else min(nominal, lending)
            for other, (nominal, _, lending) in enumerate(quotas)
            if other != at
        )
        assert capacity.most(f"q{at}", "a", GPU) == own + (lent if borrowing is None else min(lent, borrowing))


@given(QUOTA)
def test_alone_a_queue_has_its_own(quota: tuple[int, int | None, int | None]) -> None:
    alone = (quota[0], None, quota[2])
    assert Capacity([queue("q", None, group("a", GPU, alone))], []).most("q", "a", GPU) == quota[0]


@given(st.lists(QUOTA, min_size=2, max_size=5), QUOTA, QUOTA)
def test_in_nested_cohorts_nobody_gets_more_than_there_is_or_less_than_their_own(
    quotas: list[tuple[int, int | None, int | None]],
    left: tuple[int, int | None, int | None],
    right: tuple[int, int | None, int | None],
) -> None:
    cohorts = [cohort("l", "top", group("a", GPU, left)), cohort("r", "top", group("a", GPU, right))]
    queues = [queue(f"q{at}", "lr"[at % 2], group("a", GPU, quota)) for at, quota in enumerate(quotas)]
    capacity = Capacity(queues, cohorts)
    total = sum(quota[0] for quota in [*quotas, left, right])
    for at, (own, borrowing, _) in enumerate(quotas):
        most = capacity.most(f"q{at}", "a", GPU)
        assert own <= most <= total
        assert borrowing is None or most <= own + borrowing
        assert capacity.root(f"q{at}") == "top"
    assert capacity.of_cohorts("top", "a", GPU) == left[0] + right[0]


def test_what_a_nested_cohort_keeps_does_not_reach_its_neighbour() -> None:
    cohorts = [cohort("l", "top", group("a", GPU, (0, None, 1))), cohort("r", "top")]
    queues = [queue("x", "l", group("a", GPU, (4, None, None))), queue("y", "r", group("a", GPU, (2, None, None)))]
    capacity = Capacity(queues, cohorts)
    assert capacity.most("x", "a", GPU) == 6
    assert capacity.most("y", "a", GPU) == 3


def test_cohorts_in_a_circle_end() -> None:
    capacity = Capacity([queue("q", "l", group("a", GPU, (4, None, None)))], [cohort("l", "r"), cohort("r", "l")])
    assert capacity.most("q", "a", GPU) == 4
    assert capacity.root("q") == "l"
