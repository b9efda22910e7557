"""What a team's share is used for: own, lent, borrowed, and which jobs wait."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from cluster.errors import SubmissionError
from cluster.gpu_resource import is_gpu_resource
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import CLUSTER_QUEUE, COHORT, LOCAL_QUEUE, WORKLOAD, Object, entries, name_of, part
from cluster.kube.queues.capacity import Capacity, Limits, why_inactive
from cluster.kube.queues.manifest import NAMESPACE_NAME
from cluster.kube.queues.quantities import CPU, GPU, MEMORY, in_units, parsed
from cluster.kube.queues.workloads import (
    Stage,
    condition_is_true,
    conditions_of,
    created_of,
    job_of,
    priority_of,
    queue_of,
    requests_of,
    stage_of,
    waiting_in_order,
)

_NOTHING = (Fraction(0), Fraction(0))


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
    devices: Mapping[str, float]
    """Parts of GPUs by resource, such as nvidia.com/mig-1g.10gb."""
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
    namespace = namespace_of(queue)
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


def namespace_of(queue: Object) -> str:
    """The namespace of a ClusterQueue's jobs, as `queue create` selects it; else that of its name."""
    return str(part(queue, "spec", "namespaceSelector", "matchLabels").get(NAMESPACE_NAME, name_of(queue)))


def list_queues(api: KubeApi) -> list[Summary]:
    """All queues of the cluster. Raises SubmissionError."""
    api.require(CLUSTER_QUEUE)
    queues = api.list(CLUSTER_QUEUE)
    capacity = Capacity(queues, api.list(COHORT))
    return [_summary(each, capacity) for each in sorted(queues, key=name_of)]


def jobs_of(workloads: Iterable[Object]) -> list[QueuedJob]:
    """The jobs of Kueue's Workloads of one queue: those that run, then those that wait, as Kueue tries them."""
    open_ = [each for each in workloads if not condition_is_true(each, "Finished")]
    order = {id(each): place for place, each in enumerate(waiting_in_order(open_))}
    jobs = [_job(each, order.get(id(each))) for each in open_]
    stages: tuple[Stage, ...] = ("running", "reserved", "waiting", "stopped")
    return sorted(jobs, key=lambda job: (stages.index(job.stage), job.position or 0, job.created, job.name))


def _workloads(api: KubeApi, team: str, namespace: str) -> list[Object]:
    """The Workloads of a team's queue."""
    queues = {
        name_of(each)
        for each in api.list(LOCAL_QUEUE, namespace=namespace)
        if part(each, "spec").get("clusterQueue") == team
    }
    return [each for each in api.list(WORKLOAD, namespace=namespace) if queue_of(each) in queues]


def _job(workload: Object, position: int | None) -> QueuedJob:
    spec = part(workload, "spec")
    requests = requests_of(workload)
    stage = stage_of(workload)
    return QueuedJob(
        name=job_of(workload),
        stage=stage,
        position=position,
        priority_class=str(part(spec, "priorityClassRef").get("name", "")),
        priority=priority_of(workload),
        gpus=in_units(GPU, requests.get(GPU, Fraction(0))),
        devices={name: float(each) for name, each in requests.items() if is_gpu_resource(name) and name != GPU},
        cpus=in_units(CPU, requests.get(CPU, Fraction(0))),
        memory_gib=in_units(MEMORY, requests.get(MEMORY, Fraction(0))),
        created=created_of(workload),
        reason="" if stage == "running" else _reason(workload),
    )


def _reason(workload: Object) -> str:
    """What Kueue says of a Workload that does not run."""
    conditions = conditions_of(workload)
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
