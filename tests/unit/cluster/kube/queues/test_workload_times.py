"""When a Workload held quota and when it waited, read off its conditions."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kube.queues.quantities import CPU, GPU
from cluster.kube.queues.usage import Hold, Wait
from cluster.kube.queues.workload_times import JobTimes, seconds_of, times_of

MIG = "nvidia.com/mig-1g.10gb"
NOON = seconds_of("2026-01-01T12:00:00Z")
HOUR = 3600
NOW = NOON + 10 * HOUR


def at(hours: float) -> str:
    """So long after noon, when all Workloads here are created."""
    whole = int(12 + hours)
    return f"2026-01-01T{whole:02}:{int((12 + hours - whole) * 60):02}:00Z"


def condition(kind: str, status: str, hours: float) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": at(hours), "reason": "Any", "message": ""}


def workload(*conditions: dict[str, Any], admitted: bool = False, **status: Any) -> dict[str, Any]:
    usage = [
        {"name": "head", "flavors": {CPU: "cpu"}, "resourceUsage": {CPU: "2"}},
        {"name": "workers", "flavors": {CPU: "a100", GPU: "a100"}, "resourceUsage": {CPU: "16", GPU: "4"}},
    ]
    if admitted:
        status["admission"] = {"clusterQueue": "q", "podSetAssignments": usage}
    else:
        status["resourceRequests"] = [{"name": each["name"], "resources": each["resourceUsage"]} for each in usage]
    return {
        "metadata": {"name": "rayjob-j", "creationTimestamp": at(0), "ownerReferences": [{"name": "j"}]},
        "spec": {"queueName": "q", "active": True},
        "status": {"conditions": list(conditions), **status},
    }


def times(body: dict[str, Any]) -> JobTimes:
    return times_of(body, "q", NOW)


def hold(devices: float, start: float, end: float, flavor: str | None = "a100") -> Hold:
    return Hold("q", "j", GPU, Fraction(devices), NOON + int(start * HOUR), NOON + int(end * HOUR), flavor)


def wait(devices: float, start: float, end: float) -> Wait:
    return Wait("q", "j", GPU, Fraction(devices), NOON + int(start * HOUR), NOON + int(end * HOUR))


def test_a_job_that_waits_has_waited_since_it_came() -> None:
    found = times(workload(condition("QuotaReserved", "False", 0)))
    assert (found.holds, found.waits, found.evictions) == ((), (wait(4, 0, 10),), 0)
    assert times(workload()).waits == (wait(4, 0, 10),)


def test_a_job_that_runs_holds_since_quota_was_reserved() -> None:
    conditions = (condition("QuotaReserved", "True", 2), condition("Admitted", "True", 2.5))
    found = times(workload(*conditions, admitted=True))
    assert (found.holds, found.waits) == ((hold(4, 2, 10),), (wait(4, 0, 2),))


def test_a_job_that_ended_holds_until_its_end() -> None:
    conditions = (condition("QuotaReserved", "True", 2), condition("Finished", "True", 5))
    found = times(workload(*conditions, admitted=True))
    assert (found.holds, found.waits) == ((hold(4, 2, 5),), (wait(4, 0, 2),))
    assert times(workload(condition("Finished", "True", 5))).waits == (wait(4, 0, 5),)


def test_of_an_evicted_job_that_waits_it_is_known_how_long_it_ran_and_not_when() -> None:
    conditions = (condition("QuotaReserved", "False", 8), condition("Evicted", "True", 7.5))
    body = workload(*conditions, accumulatedPastExecutionTimeSeconds=6 * HOUR)
    found = times(body)
    assert found.holds == (hold(3, 0, 8, None),)  # 6 of 8 hours with 4 GPUs
    assert found.waits == (wait(1, 0, 8), wait(4, 8, 10))
    assert found.evictions == 1
    counts = [{"reason": "Preempted", "underlyingCause": "", "count": 2}, {"reason": "NodeFailures", "count": 1}]
    body["status"]["schedulingStats"] = {"evictions": counts}
    assert times(body).evictions == 3


def test_of_one_that_runs_again_the_latest_turn_is_known() -> None:
    conditions = (condition("QuotaReserved", "True", 8), condition("Evicted", "False", 8))
    found = times(workload(*conditions, admitted=True, accumulatedPastExecutionTimeSeconds=4 * HOUR))
    assert found.holds == (hold(2, 0, 8, None), hold(4, 8, 10))
    assert found.waits == (wait(2, 0, 8),)
    assert found.evictions == 1


def test_a_stopped_job_waits_no_longer() -> None:
    body = workload(condition("QuotaReserved", "False", 0), condition("Evicted", "True", 3))
    body["spec"]["active"] = False
    assert times(body).waits == (wait(4, 0, 3),)


def test_parts_of_gpus_are_counted_by_their_own_name() -> None:
    body = workload(condition("QuotaReserved", "True", 0), admitted=True)
    usage = body["status"]["admission"]["podSetAssignments"]
    usage[1] |= {"flavors": {MIG: "a100"}, "resourceUsage": {CPU: "16", MIG: "2", GPU: "0"}}
    (found,) = times(body).holds
    assert (found.resource, found.devices, found.flavor) == (MIG, 2, "a100")


def test_quota_without_a_flavor_is_of_an_unknown_one() -> None:
    body = workload(condition("QuotaReserved", "True", 0), admitted=True)
    del body["status"]["admission"]["podSetAssignments"][1]["flavors"]
    assert times(body).holds == (hold(4, 0, 10, None),)
    assert times(workload(condition("QuotaReserved", "True", 0))).holds == (hold(4, 0, 10, None),)


def test_a_job_without_gpus_leaves_nothing() -> None:
    body = workload(condition("QuotaReserved", "False", 0))
    body["status"]["resourceRequests"] = [{"name": "head", "resources": {CPU: "2"}}]
    found = times(body)
    assert (found.holds, found.waits) == ((), ())


@given(
    st.integers(0, 9), st.integers(0, 9), st.integers(0, 12 * HOUR), st.booleans(), st.booleans(),
    st.none() | st.booleans(),
)  # fmt: skip
def test_all_of_a_jobs_time_is_held_or_waited(
    first: int, second: int, past: int, reserved: bool, finished: bool, evicted: bool | None
) -> None:
    turned, end = sorted((first, second))
    conditions = [condition("QuotaReserved", "True" if reserved else "False", turned)]
    conditions += [condition("Finished", "True", end)] if finished else []
    conditions += [condition("Evicted", str(evicted), turned)] if evicted is not None else []
    found = times(workload(*conditions, admitted=reserved, accumulatedPastExecutionTimeSeconds=past))
    spent = sum(each.devices * (each.end - each.start) for each in (*found.holds, *found.waits))
    assert spent == 4 * HOUR * (end if finished else 10)
    before = sum(each.devices * (each.end - each.start) for each in found.holds if each.flavor is None)
    assert before == 4 * min(past, turned * HOUR)


def test_times_have_a_zone() -> None:
    assert seconds_of("2026-01-01T12:00:00.5+00:00") == NOON
    with pytest.raises(ValueError, match="has no zone"):
        seconds_of("2026-01-01T12:00:00")
