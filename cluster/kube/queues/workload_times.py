"""When a Workload of Kueue held quota and when it waited, as far as its status tells.

A condition keeps its latest change only. Of a job that was evicted, Kueue tells how long it was admitted before
(`accumulatedPastExecutionTimeSeconds`) and not when: that time is spread evenly from its creation to its latest turn.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from cluster.gpu_resource import is_gpu_resource
from cluster.kube.client.kinds import Object, entries, part
from cluster.kube.queues.quantities import parsed
from cluster.kube.queues.usage import Hold, Wait
from cluster.kube.queues.workloads import conditions_of, created_of, job_of, requests_of


@dataclass(frozen=True)
class JobTimes:
    """A job's intervals up to now."""

    queue: str
    """The ClusterQueue."""
    job: str
    created: int
    holds: tuple[Hold, ...]
    waits: tuple[Wait, ...]
    evictions: int
    """How often it lost its quota; where Kueue does not count, 1 stands for "at least once"."""


def times_of(workload: Object, queue: str, now: int) -> JobTimes:
    """A Workload's intervals up to `now`; `queue`: its ClusterQueue. Only GPUs and parts of them are counted."""
    conditions, job = conditions_of(workload), job_of(workload)
    created = seconds_of(created_of(workload))
    reserved, finished = (_since(conditions, kind, "True") for kind in ("QuotaReserved", "Finished"))
    end = now if finished is None else finished
    turned = max(created, reserved or _since(conditions, "QuotaReserved", "False") or created)
    asked = {name: amount for name, amount in requests_of(workload).items() if amount and is_gpu_resource(name)}
    past = int(part(workload, "status").get("accumulatedPastExecutionTimeSeconds") or 0)
    share = Fraction(min(past, turned - created), turned - created) if turned > created else Fraction(0)
    holds: list[Hold] = []
    waits: list[Wait] = []
    for name, amount in asked.items():
        if share:
            holds.append(Hold(queue, job, name, amount * share, created, turned, None))
        if share < 1:
            waits.append(Wait(queue, job, name, amount * (1 - share), created, turned))
    if reserved is None:
        if part(workload, "spec").get("active") is False:  # nobody waits any more
            end = max(turned, _since(conditions, "Evicted", "True") or turned)
        waits += [Wait(queue, job, name, amount, turned, end) for name, amount in asked.items()]
    else:
        for (flavor, name), amount in (_assigned(workload) or {(None, each): asked[each] for each in asked}).items():
            holds.append(Hold(queue, job, name, amount, turned, end, flavor))
    return JobTimes(
        queue,
        job,
        created,
        tuple(each for each in holds if each.start < each.end),
        tuple(each for each in waits if each.start < each.end),
        _evictions(workload, conditions),
    )


def seconds_of(time: str) -> int:
    """Whole seconds since 1970 of a time in ISO 8601 with its zone. Raises ValueError for anything else."""
    moment = datetime.fromisoformat(time)
    if moment.tzinfo is None:
        raise ValueError(f"{time!r} has no zone; write it as 2026-01-31T12:00:00Z")
    return int(moment.timestamp())


def _assigned(workload: Object) -> dict[tuple[str | None, str], Fraction]:
    """What it holds, by flavor and resource."""
    total: defaultdict[tuple[str | None, str], Fraction] = defaultdict(Fraction)
    for each in entries(workload, "status", "admission", "podSetAssignments"):
        flavors = part(each, "flavors")
        for name, amount in part(each, "resourceUsage").items():
            if is_gpu_resource(name) and parsed(amount):
                total[str(flavors[name]) if flavors.get(name) else None, name] += parsed(amount)
    return dict(total)


def _since(conditions: Mapping[str, Object], kind: str, status: str) -> int | None:
    """Since when a condition has had a status; None where it has another one."""
    found = conditions.get(kind, {})
    time = found.get("lastTransitionTime")
    return seconds_of(str(time)) if found.get("status") == status and time else None


def _evictions(workload: Object, conditions: Mapping[str, Object]) -> int:
    counted = sum(int(each.get("count") or 0) for each in entries(workload, "status", "schedulingStats", "evictions"))
    # When quota is reserved again, the condition stays and turns False.
    return max(counted, int("Evicted" in conditions))
