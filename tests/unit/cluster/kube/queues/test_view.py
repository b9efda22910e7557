"""What is borrowed and lent, and in which order jobs wait."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.kube.queues.capacity import Capacity
from cluster.kube.queues.quantities import CPU, GPU, MEMORY, parsed
from cluster.kube.queues.view import jobs_of, shares_of
from cluster.kube.queues.workloads import requests_of


@st.composite
def loans(draw: st.DrawFn) -> tuple[list[int], list[int], dict[tuple[int, int], int]]:
    """Quotas of queues, what each uses of its own, and who has lent how much to whom."""
    count = draw(st.integers(1, 4))
    lenders = draw(st.integers(0, count))
    quotas = draw(st.lists(st.integers(0, 10), min_size=count, max_size=count))
    lent: dict[tuple[int, int], int] = {}
    own = list(quotas)  # who borrows uses all of its own first
    for lender in range(lenders):
        left = quotas[lender] - draw(st.integers(0, quotas[lender]))
        own[lender] = quotas[lender] - left
        for borrower in range(lenders, count):
            lent[lender, borrower] = draw(st.integers(0, left))
            left -= lent[lender, borrower]
    return quotas, own, lent


@given(loans())
def test_what_was_lent_lies_in_the_range_that_is_shown(case: tuple[list[int], list[int], dict[Any, int]]) -> None:
    quotas, own, lent = case
    queues: dict[str, Any] = {}
    for at, quota in enumerate(quotas):
        borrowed = sum(amount for (_, borrower), amount in lent.items() if borrower == at)
        queues[f"q{at}"] = queue(f"q{at}", quota, own[at] + borrowed, borrowed)
    capacity = Capacity(queues.values(), [])
    for at, quota in enumerate(quotas):
        (share,) = shares_of(f"q{at}", queues, capacity)
        really = sum(amount for (lender, _), amount in lent.items() if lender == at)
        assert share.lent_least <= really <= share.lent_most
        assert (share.quota, share.reserved) == (quota, own[at] + share.borrowed)


def test_with_one_lender_what_is_lent_is_known() -> None:
    queues = {"a": queue("a", 8, 2, 0), "b": queue("b", 2, 5, 3)}
    capacity = Capacity(queues.values(), [])
    (lender,), (borrower,) = (tuple(shares_of(name, queues, capacity)) for name in ("a", "b"))
    assert (lender.lent_least, lender.lent_most, lender.borrowed) == (3, 3, 0)
    assert (borrower.lent_least, borrower.lent_most, borrower.borrowed) == (0, 0, 3)
    assert (lender.most, borrower.most) == (10, 10)


def test_no_more_is_lent_than_the_limit_allows() -> None:
    queues = {"a": queue("a", 8, 0, 0, lending=1), "b": queue("b", 8, 0, 0), "c": queue("c", 2, 5, 3)}
    (limited,), (free,) = (tuple(shares_of(name, queues, Capacity(queues.values(), []))) for name in ("a", "b"))
    assert (limited.lent_least, limited.lent_most) == (0, 1)
    assert (free.lent_least, free.lent_most) == (2, 3)


def test_what_a_cohort_owns_itself_was_not_lent_by_a_queue() -> None:
    queues = {"a": queue("a", 8, 2, 0), "b": queue("b", 2, 5, 3)}
    owned = {"metadata": {"name": "c"}, "spec": {"resourceGroups": queue("c", 3, 0, 0)["spec"]["resourceGroups"]}}
    (lender,) = shares_of("a", queues, Capacity(queues.values(), [owned]))
    assert (lender.lent_least, lender.lent_most) == (0, 3)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 9)), max_size=12))
def test_jobs_wait_by_priority_then_age_and_each_knows_how_many_are_before_it(given_: list[tuple[int, int]]) -> None:
    workloads = [workload(f"w{at}", priority, age) for at, (priority, age) in enumerate(given_)]
    jobs = jobs_of(workloads)
    assert [job.position for job in jobs] == list(range(len(given_)))
    keys = [(-job.priority, job.created, job.name) for job in jobs]
    assert keys == sorted(keys)


def test_stages_of_jobs() -> None:
    waiting = workload(
        "waiting", 0, 1, ("QuotaReserved", "False", "couldn't assign flavors to pod set workers: \n full")
    )
    stopped = workload("stopped", 9, 1)
    stopped["spec"]["active"] = False
    jobs = {
        job.name: job
        for job in jobs_of(
            [
                workload("running", 5, 1, ("QuotaReserved", "True", ""), ("Admitted", "True", "admitted")),
                workload("reserved", 0, 1, ("QuotaReserved", "True", ""), ("Admitted", "False", "waits for a check")),
                waiting,
                stopped,
                workload("finished", 0, 0, ("Admitted", "True", ""), ("Finished", "True", "")),
                workload("evicted", 0, 0, ("Evicted", "True", "Preempted to accommodate a workload")),
            ]
        )
    }
    assert {name: job.stage for name, job in jobs.items()} == {
        "running": "running", "reserved": "reserved", "evicted": "waiting", "waiting": "waiting", "stopped": "stopped",
    }  # fmt: skip
    assert list(jobs)[:2] == ["running", "reserved"]
    assert jobs["waiting"].reason == "couldn't assign flavors to pod set workers: full"
    assert jobs["evicted"].reason == "Preempted to accommodate a workload"
    assert jobs["reserved"].reason == "waits for a check"
    assert jobs["running"].reason == ""
    assert (jobs["evicted"].position, jobs["waiting"].position, jobs["running"].position) == (0, 1, None)


def test_what_a_job_asks_for_is_what_kueue_counts_and_before_that_what_its_pods_state() -> None:
    body = workload("w", 0, 0)
    container = {"resources": {"requests": {CPU: "500m", MEMORY: "1Gi", GPU: "2"}}}
    body["spec"]["podSets"] = [{"name": "workers", "count": 3, "template": {"spec": {"containers": [container] * 2}}}]
    assert requests_of(body) == {CPU: 3, MEMORY: 6 * 2**30, GPU: 12}
    body["status"]["resourceRequests"] = [{"name": "workers", "resources": {CPU: "4"}}]
    assert requests_of(body) == {CPU: 4}
    usage = [{"name": "head", "resourceUsage": {CPU: "1"}}, {"name": "workers", "resourceUsage": {CPU: "4", GPU: "8"}}]
    body["status"]["admission"] = {"clusterQueue": "q", "podSetAssignments": usage}
    assert requests_of(body) == {CPU: parsed("5"), GPU: 8}


def queue(name: str, quota: int, reserved: int, borrowed: int, lending: int | None = None) -> dict[str, Any]:
    limit = {} if lending is None else {"lendingLimit": str(lending)}
    flavor = {"name": "a", "resources": [{"name": GPU, "nominalQuota": str(quota), **limit}]}
    used = {"name": "a", "resources": [{"name": GPU, "total": str(reserved), "borrowed": str(borrowed)}]}
    return {
        "metadata": {"name": name},
        "spec": {"cohortName": "c", "resourceGroups": [{"coveredResources": [GPU], "flavors": [flavor]}]},
        "status": {"flavorsReservation": [used], "flavorsUsage": [used]},
    }


def workload(name: str, priority: int, age: int, *conditions: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"rayjob-{name}",
            "creationTimestamp": f"2026-01-01T00:0{age}:00Z",
            "ownerReferences": [{"kind": "RayJob", "name": name}],
        },
        "spec": {"queueName": "q", "priority": priority},
        "status": {
            "conditions": [{"type": kind, "status": status, "message": message} for kind, status, message in conditions]
        },
    }
