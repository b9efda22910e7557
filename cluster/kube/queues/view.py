"""What a team's share is used for: own, lent, borrowed, and which jobs wait."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, cast

from cluster.errors import SubmissionError
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import CLUSTER_QUEUE, COHORT, LOCAL_QUEUE, WORKLOAD, Object, entries, name_of, part
from cluster.kube.queues.capacity import Capacity, Limits, why_inactive
from cluster.kube.queues.manifest import NAMESPACE_NAME
from cluster.kube.queues.quantities import CPU, GPU, MEMORY, in_units, parsed

_NOTHING = (Fraction(0), Fraction(0))

Stage = Literal["running", "reserved", "waiting", "stopped"]


@dataclass(frozen=True)
class Share:
    """A queue's quota of one resource in one flavor, and what became of it; memory in GiB."""

    flavor: str
    resource: str
    quota: float
    """Its own."""
    used: float
    """By jobs that run."""
    reserved: float
    """By jobs that run or are about to."""
    borrowed: float
    """Of what is reserved: from others of the cohort."""
    lent_least: float
    lent_most: float
    """Of its own, to others: Kueue says who borrows and not from whom, so with several lenders it is a range."""
    most: float
    """What it could have if nobody else used any."""


@dataclass(frozen=True)
class QueuedJob:
    """A job in a team's queue."""

    name: str
    stage: Stage
    position: int | None
    """Jobs that are admitted before it; None for those that do not wait."""
    priority_class: str
    priority: int
    gpus: float
    cpus: float
    memory_gib: float
    created: str
    """UTC time, ISO 8601."""
    reason: str
    """Why it waits or stopped, as Kueue says it."""


@dataclass(frozen=True)
class Summary:
    """A queue in a line."""

    name: str
    cohort: str
    inactive: str
    """Why it admits nothing; empty where it does."""
    gpus: float
    """Its own, over all flavors."""
    used: float
    """GPUs."""
    borrowed: float
    """GPUs."""
    running: int
    waiting: int


@dataclass(frozen=True)
class QueueView:
    """A team's queue."""

    name: str
    namespace: str
    cohort: str
    inactive: str
    shares: tuple[Share, ...]
    jobs: tuple[QueuedJob, ...]
    """Running ones, then those that wait in the order in which they are tried."""
    hidden: str
    """Why no jobs are shown; empty where they are. Members of other teams see the shares and not the jobs."""
    others: tuple[Summary, ...]
    """The other queues that lend and borrow with it."""


def view_queue(api: KubeApi, team: str) -> QueueView:
    """A team's queue as it is now. Raises SubmissionError, which lists the teams there are, where there is none."""
    api.require(CLUSTER_QUEUE)
    queues = {name_of(each): each for each in api.list(CLUSTER_QUEUE)}
    if team not in queues:
        known = ", ".join(sorted(queues)) or "none"
        raise SubmissionError(
            f"there is no queue {team!r}; there are: {known}. `resnet-dist queue create {team} --config FILE` makes one"
        )
    capacity = Capacity(queues.values(), api.list(COHORT))
    queue = queues[team]
    selector = part(part(queue, "spec"), "namespaceSelector")
    namespace = str(part(selector, "matchLabels").get(NAMESPACE_NAME, team))
    hidden = [kind.plural for kind in (LOCAL_QUEUE, WORKLOAD) if not api.may("list", kind, namespace)]
    return QueueView(
        name=team,
        namespace=namespace,
        cohort=capacity.root(team) or "",
        inactive=why_inactive(queue) or "",
        shares=tuple(shares_of(team, queues, capacity)),
        jobs=() if hidden else tuple(jobs_of(_workloads(api, team, namespace))),
        hidden=f"no permission to list {' and '.join(hidden)} in namespace {namespace}" if hidden else "",
        others=tuple(_summary(queues[name], capacity) for name in _others(team, queues, capacity)),
    )


def list_queues(api: KubeApi) -> list[Summary]:
    """All queues of the cluster. Raises SubmissionError."""
    api.require(CLUSTER_QUEUE)
    queues = api.list(CLUSTER_QUEUE)
    capacity = Capacity(queues, api.list(COHORT))
    return [_summary(each, capacity) for each in sorted(queues, key=name_of)]


def jobs_of(workloads: Iterable[Object]) -> list[QueuedJob]:
    """The jobs of Kueue's Workloads of one queue: those that run, then those that wait, as Kueue tries them."""
    open_ = [each for each in workloads if not _is(each, "Finished")]
    order = {id(each): place for place, each in enumerate(waiting_in_order(open_))}
    jobs = [_job(each, order.get(id(each))) for each in open_]
    stages: tuple[Stage, ...] = ("running", "reserved", "waiting", "stopped")
    return sorted(jobs, key=lambda job: (stages.index(job.stage), job.position or 0, job.created, job.name))


def waiting_in_order(workloads: Iterable[Object]) -> list[Object]:
    """The Workloads that wait, in the order in which Kueue tries them: by priority, then by age."""
    waiting = [each for each in workloads if stage_of(each) == "waiting"]
    return sorted(waiting, key=lambda each: (-priority_of(each), _created(each), name_of(each)))


def stage_of(workload: Object) -> Stage:
    """How far an unfinished Workload has come."""
    if part(workload, "spec").get("active") is False:
        return "stopped"
    if _is(workload, "Finished"):
        return "stopped"
    if _is(workload, "Admitted"):
        return "running"
    return "reserved" if _is(workload, "QuotaReserved") else "waiting"


def priority_of(workload: Object) -> int:
    """A Workload's priority; without a class it is 0."""
    return int(part(workload, "spec").get("priority") or 0)


def queue_of(workload: Object) -> str:
    """The LocalQueue that a Workload waits in."""
    return str(part(workload, "spec").get("queueName", ""))


def _workloads(api: KubeApi, team: str, namespace: str) -> list[Object]:
    """The Workloads of a team's queue."""
    queues = {
        name_of(each)
        for each in api.list(LOCAL_QUEUE, namespace=namespace)
        if part(each, "spec").get("clusterQueue") == team
    }
    return [each for each in api.list(WORKLOAD, namespace=namespace) if queue_of(each) in queues]


def _job(workload: Object, position: int | None) -> QueuedJob:
    spec, metadata = part(workload, "spec"), part(workload, "metadata")
    requests = requests_of(workload)
    owners = cast("list[Object]", metadata.get("ownerReferences") or [])
    stage = stage_of(workload)
    return QueuedJob(
        name=str(owners[0]["name"]) if owners else name_of(workload),
        stage=stage,
        position=position,
        priority_class=str(part(spec, "priorityClassRef").get("name", "")),
        priority=priority_of(workload),
        gpus=in_units(GPU, requests.get(GPU, Fraction(0))),
        cpus=in_units(CPU, requests.get(CPU, Fraction(0))),
        memory_gib=in_units(MEMORY, requests.get(MEMORY, Fraction(0))),
        created=_created(workload),
        reason="" if stage == "running" else _reason(workload),
    )


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


def _reason(workload: Object) -> str:
    """What Kueue says of a Workload that does not run."""
    conditions = {str(each.get("type")): each for each in entries(part(workload, "status"), "conditions")}
    for kind, status in (("QuotaReserved", "False"), ("Evicted", "True"), ("Admitted", "False")):
        condition = conditions.get(kind)
        if condition is not None and condition.get("status") == status and condition.get("message"):
            return " ".join(str(condition["message"]).split())
    return ""


def _others(team: str, queues: Iterable[str], capacity: Capacity) -> list[str]:
    """The other queues of a queue's cohort."""
    root = capacity.root(team)
    return [name for name in queues if root is not None and name != team and capacity.root(name) == root]


def shares_of(team: str, queues: Mapping[str, Object], capacity: Capacity) -> Iterator[Share]:
    """What became of each of a queue's quotas, in its order; `queues` are all of the cluster by name."""
    others, root = _others(team, queues, capacity), capacity.root(team)
    reserved = {name: _usage(queues[name], "flavorsReservation") for name in (team, *others)}
    used = _usage(queues[team], "flavorsUsage")
    for pair in capacity.pairs(team):
        limits = capacity.limits(team, *pair)
        total, borrowed = reserved[team].get(pair, _NOTHING)
        taken = sum((reserved[name].get(pair, _NOTHING)[1] for name in others), Fraction(0))
        mine = _idle(limits, total)
        theirs = sum(
            (_idle(capacity.limits(name, *pair), reserved[name].get(pair, _NOTHING)[0]) for name in others), Fraction(0)
        )
        elsewhere = theirs + (Fraction(0) if root is None else capacity.of_cohorts(root, *pair))
        amounts = (
            *(limits.nominal, used.get(pair, _NOTHING)[0], total, borrowed),
            # What others borrow and nobody else can have lent, is this queue's. One that borrows lends nothing.
            *(min(mine, max(Fraction(0), taken - elsewhere)), min(mine, taken)),
            capacity.most(team, *pair),
        )
        yield Share(*pair, *(in_units(pair[1], amount) for amount in amounts))


def _idle(limits: Limits, used: Fraction) -> Fraction:
    """What of its own a queue leaves to others."""
    unused = max(Fraction(0), limits.nominal - used)
    return unused if limits.lending is None else min(unused, limits.lending)


def _summary(queue: Object, capacity: Capacity) -> Summary:
    name = name_of(queue)
    usage = _usage(queue, "flavorsReservation")
    gpus = [pair for pair in capacity.pairs(name) if pair[1] == GPU]
    status = part(queue, "status")
    return Summary(
        name=name,
        cohort=capacity.root(name) or "",
        inactive=why_inactive(queue) or "",
        gpus=float(sum(capacity.limits(name, *pair).nominal for pair in gpus)),
        used=float(sum(usage.get(pair, _NOTHING)[0] for pair in gpus)),
        borrowed=float(sum(usage.get(pair, _NOTHING)[1] for pair in gpus)),
        running=int(status.get("admittedWorkloads") or 0),
        waiting=int(status.get("pendingWorkloads") or 0),
    )


def _usage(queue: Object, name: str) -> dict[tuple[str, str], tuple[Fraction, Fraction]]:
    """Total and borrowed by flavor and resource."""
    return {
        (str(flavor["name"]), str(each["name"])): (parsed(each.get("total", 0)), parsed(each.get("borrowed", 0)))
        for flavor in entries(part(queue, "status"), name)
        for each in entries(flavor, "resources")
    }


def _is(workload: Object, condition: str) -> bool:
    return any(
        each.get("type") == condition and each.get("status") == "True"
        for each in entries(part(workload, "status"), "conditions")
    )


def _created(workload: Object) -> str:
    return str(part(workload, "metadata").get("creationTimestamp", ""))
