"""GPU hours by team and by job, read from Kueue's Workloads and from what runs have recorded of jobs that are gone."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

from cluster.errors import SubmissionError
from cluster.gpu_resource import is_gpu_resource
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import CLUSTER_QUEUE, COHORT, LOCAL_QUEUE, WORKLOAD, Object, name_of, part
from cluster.kube.queues.capacity import Capacity
from cluster.kube.queues.usage import Hold, Hours, Period, Quotas, clipped, reckon
from cluster.kube.queues.view import namespace_of
from cluster.kube.queues.workload_times import JobTimes, times_of
from cluster.kube.queues.workloads import queue_of


@dataclass(frozen=True)
class RecordedHold:
    """What a run has recorded of a job: its driver ran so long, with so many devices for its workers."""

    namespace: str
    queue: str
    """The LocalQueue."""
    job: str
    resource: str
    devices: int
    start: int
    """Seconds since 1970, UTC; the next as well."""
    end: int


@dataclass(frozen=True)
class JobUsage:
    """A job's hours of one resource; jobs of a name in a queue are one."""

    team: str
    """Its ClusterQueue."""
    job: str
    resource: str
    used_hours: float
    """Hours of all its devices together, as all others here."""
    borrowed_hours: float
    """Of those used."""
    unplaced_hours: float
    """Of those used: not known when or of which flavor, so they count neither as borrowed nor against a quota."""
    waited_hours: float
    evictions: int
    """How often it lost its quota in all its time."""
    is_recorded: bool
    """Whether some of it is known by its run's records only: the driver's time, without waiting."""


@dataclass(frozen=True)
class TeamUsage:
    """A queue's hours of one resource."""

    team: str
    cohort: str
    """The one at the top; empty for a queue that is alone."""
    resource: str
    used_hours: float
    borrowed_hours: float
    unplaced_hours: float
    lent_hours: float | None
    """None where the jobs of a queue of its cohort may not be read."""
    waited_hours: float


@dataclass(frozen=True)
class UsageView:
    """Hours of GPUs in a period."""

    since: str
    """UTC time, ISO 8601; the next as well."""
    until: str
    teams: tuple[TeamUsage, ...]
    """By name; whole GPUs before parts of them."""
    jobs: tuple[JobUsage, ...]
    """Those that used most first."""
    hidden: Mapping[str, str]
    """Why the jobs of a team are not counted, by team."""


@dataclass(frozen=True)
class _Found:
    """What there is of all queues that are looked at."""

    quotas: Quotas
    times: tuple[JobTimes, ...]
    local_queues: Mapping[tuple[str, str], str]
    """ClusterQueues by namespace and LocalQueue."""
    hidden: Mapping[str, str]


def view_usage(
    api: KubeApi, period: Period, teams: Sequence[str] = (), recorded: Iterable[RecordedHold] = ()
) -> UsageView:
    """Hours of teams, by default of all, within a period that ends now.

    Raises SubmissionError, which lists the teams there are, where there is none of a name.
    """
    api.require(CLUSTER_QUEUE)
    queues = {name_of(each): each for each in api.list(CLUSTER_QUEUE)}
    for team in teams:
        if team not in queues:
            known = ", ".join(sorted(queues)) or "none"
            raise SubmissionError(f"--team {team}: there is no queue of that name; use one of: {known}")
    capacity = Capacity(queues.values(), api.list(COHORT))
    shown = list(dict.fromkeys(teams)) or sorted(queues)
    cohorts = {capacity.root(name) for name in shown} - {None}
    # What a team lends is decided by what the others of its cohort hold.
    concerned = [name for name in queues if name in shown or capacity.root(name) in cohorts]
    found = _read(api, {name: queues[name] for name in concerned}, capacity, period.until)
    return usage_of(found.quotas, found.times, _holds_of(recorded, found), found.hidden, period, shown)


def usage_of(
    quotas: Quotas,
    times: Sequence[JobTimes],
    recorded: Sequence[Hold],
    hidden: Mapping[str, str],
    period: Period,
    shown: Sequence[str],
) -> UsageView:
    """Hours of the teams `shown`. `times`: of all queues that they lend to and borrow from, but the `hidden` ones."""
    oldest: dict[tuple[str, str], int] = {}
    evictions: defaultdict[tuple[str, str], int] = defaultdict(int)
    for each in times:
        key = each.queue, each.job
        oldest[key] = min(each.created, oldest.get(key, each.created))
        evictions[key] += each.evictions
    # A record of a job that Kueue still knows says nothing new.
    gone = [each for each in recorded if each.start < oldest.get((each.queue, each.job), each.end)]
    holds = [*(hold for each in times for hold in each.holds), *gone]
    reckoning = reckon(holds, [wait for each in times for wait in each.waits], quotas, period)
    rows = {(each.queue, each.job, each.resource) for each in clipped(gone, period)}
    jobs = [
        JobUsage(*row, *_as_floats(hours), evictions[row[:2]], row in rows)
        for row, hours in reckoning.jobs.items()
        if row[0] in shown and row[0] not in hidden
    ]
    return UsageView(
        since=_as_time(period.since),
        until=_as_time(period.until),
        teams=tuple(_teams(quotas, reckoning.jobs, reckoning.lent, hidden, shown)),
        jobs=tuple(sorted(jobs, key=lambda job: (-job.used_hours, -job.waited_hours, job.team, job.job, job.resource))),
        hidden={name: why for name, why in hidden.items() if name in shown},
    )


def _teams(
    quotas: Quotas,
    jobs: Mapping[tuple[str, str, str], Hours],
    lent: Mapping[tuple[str, str], Fraction],
    hidden: Mapping[str, str],
    shown: Sequence[str],
) -> Iterator[TeamUsage]:
    total: defaultdict[tuple[str, str], Hours] = defaultdict(Hours)
    for (queue, _, resource), hours in jobs.items():
        total[queue, resource] += hours
    # Where a queue cannot be read, nobody knows what the others of its cohort lend to it.
    blind = {quotas.cohorts.get(name) for name in hidden} - {None}
    owned = {
        (queue, name) for (queue, _, name), limits in quotas.limits.items() if limits.nominal and is_gpu_resource(name)
    }
    for queue, resource in sorted(total.keys() | owned, key=lambda key: (key[0], len(key[1]), key[1])):
        if queue not in shown or queue in hidden:
            continue
        cohort = quotas.cohorts.get(queue, "")
        used, borrowed, unplaced, waited = _as_floats(total[queue, resource])
        loans = None if cohort in blind else float(lent.get((queue, resource), 0))
        yield TeamUsage(queue, cohort, resource, used, borrowed, unplaced, loans, waited)


def _as_floats(hours: Hours) -> tuple[float, float, float, float]:
    return float(hours.used), float(hours.borrowed), float(hours.unplaced), float(hours.waited)


def _as_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _read(api: KubeApi, queues: Mapping[str, Object], capacity: Capacity, now: int) -> _Found:
    """What may be read of queues, their quotas and their Workloads."""
    hidden: dict[str, str] = {}
    local_queues: dict[tuple[str, str], str] = {}
    workloads: dict[str, list[Object]] = {}
    for name, queue in queues.items():
        namespace = namespace_of(queue)
        missing = [kind.plural for kind in (LOCAL_QUEUE, WORKLOAD) if not api.may("list", kind, namespace)]
        if missing:
            hidden[name] = f"no permission to list {' and '.join(missing)} in namespace {namespace}"
        elif namespace not in workloads:
            workloads[namespace] = api.list(WORKLOAD, namespace=namespace)
            for each in api.list(LOCAL_QUEUE, namespace=namespace):
                local_queues[namespace, name_of(each)] = str(part(each, "spec").get("clusterQueue", ""))
    times = [
        times_of(each, queue, now)
        for namespace, found in workloads.items()
        for each in found
        if (queue := local_queues.get((namespace, queue_of(each)), "")) in queues
    ]
    return _Found(_quotas(queues, capacity), tuple(times), local_queues, hidden)


def _quotas(queues: Iterable[str], capacity: Capacity) -> Quotas:
    pairs = [(name, *pair) for name in queues for pair in capacity.pairs(name)]
    cohorts = {name: root for name in queues if (root := capacity.root(name)) is not None}
    tops = {(cohorts[name], flavor, resource) for name, flavor, resource in pairs if name in cohorts}
    return Quotas(
        {key: capacity.limits(*key) for key in pairs}, cohorts, {key: capacity.of_cohorts(*key) for key in tops}
    )


def _holds_of(recorded: Iterable[RecordedHold], found: _Found) -> list[Hold]:
    """Records as holds. The flavor is known where there is only one; the queue is the team's, as `queue create` makes
    it, where its LocalQueue is gone or may not be read."""
    holds: list[Hold] = []
    for each in recorded:
        queue = found.local_queues.get((each.namespace, each.queue), each.queue)
        flavor = found.quotas.only_flavor(queue, each.resource)
        devices = Fraction(each.devices)
        holds.append(Hold(queue, each.job, each.resource, devices, each.start, each.end, flavor))
    return holds
