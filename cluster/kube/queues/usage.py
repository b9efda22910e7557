"""Hours of GPUs that jobs used, borrowed, lent and waited for, reckoned from the intervals in which they held quota.

Pure: nothing is read here. Times are whole seconds since 1970 in UTC, amounts are exact. A queue borrows what it holds
above its own quota at a moment. Kueue says neither which job borrows nor from whom, so two conventions share it out:
the jobs of a queue borrow in proportion to what each holds, and the queues of a cohort lend in proportion to what each
leaves idle.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeVar

from cluster.kube.queues.capacity import Limits

_HOUR = 3600
Row = tuple[str, str, str]
"""Queue, job and resource."""


@dataclass(frozen=True)
class Period:
    """From when to when is counted."""

    since: int
    until: int


@dataclass(frozen=True)
class Hold:
    """A job holds devices of its queue's quota."""

    queue: str
    job: str
    resource: str
    devices: Fraction
    """Of all its pods together."""
    start: int
    end: int
    flavor: str | None
    """None: it is not known of which flavor, or when in the interval; `devices` is the mean over it then. Such a hold
    counts as used, and neither as borrowed nor against anybody's quota."""


@dataclass(frozen=True)
class Wait:
    """A job waits for devices."""

    queue: str
    job: str
    resource: str
    devices: Fraction
    start: int
    end: int


@dataclass(frozen=True)
class Quotas:
    """What queues own. It is what they own now: Kueue keeps no history of quotas."""

    limits: Mapping[tuple[str, str, str], Limits]
    """By queue, flavor and resource."""
    cohorts: Mapping[str, str]
    """The cohort at the top of each queue's tree; queues that are alone are missing."""
    shared: Mapping[tuple[str, str, str], Fraction] = field(default_factory=dict[tuple[str, str, str], Fraction])
    """What cohorts own themselves, by cohort, flavor and resource."""

    def only_flavor(self, queue: str, resource: str) -> str | None:
        """The one flavor in which a queue can have a resource, its own or borrowed; None where there are several."""
        cohort = self.cohorts.get(queue)
        mine = {flavor for owner, flavor, name in self.limits if owner == queue and name == resource}
        found = {
            flavor
            for (owner, flavor, name), limits in self.limits.items()
            if name == resource and flavor in mine and limits.nominal > 0
            if owner == queue or (cohort is not None and self.cohorts.get(owner) == cohort)
        }
        found |= {
            flavor
            for (owner, flavor, name), amount in self.shared.items()
            if owner == cohort and name == resource and flavor in mine and amount > 0
        }
        return found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class Hours:
    """Hours times devices of one job, or of all jobs of a queue, in one resource."""

    used: Fraction = Fraction(0)
    borrowed: Fraction = Fraction(0)
    """Of what was used."""
    unplaced: Fraction = Fraction(0)
    """Of what was used: not known when or of which flavor, so whether any of it was borrowed is not known."""
    waited: Fraction = Fraction(0)

    def __add__(self, other: "Hours") -> "Hours":
        return Hours(*(getattr(self, name) + getattr(other, name) for name in Hours.__dataclass_fields__))


@dataclass(frozen=True)
class Reckoning:
    """What came of all intervals."""

    jobs: Mapping[Row, Hours]
    lent: Mapping[tuple[str, str], Fraction]
    """Hours by queue and resource; queues that lent nothing are missing."""


_Kind = TypeVar("_Kind", Hold, Wait)


def reckon(holds: Iterable[Hold], waits: Iterable[Wait], quotas: Quotas, period: Period) -> Reckoning:
    """Hours by job, and what each queue lent, within a period. Holds must be those of all queues that lend and borrow
    with each other, or what was lent is wrong."""
    jobs: defaultdict[Row, Hours] = defaultdict(Hours)
    lent: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
    pools: defaultdict[tuple[str, str], list[Hold]] = defaultdict(list)
    for hold in clipped(holds, period):
        hours = hold.devices * Fraction(hold.end - hold.start, _HOUR)
        jobs[_row(hold)] += Hours(used=hours, unplaced=hours if hold.flavor is None else Fraction(0))
        if hold.flavor is not None:
            pools[hold.flavor, hold.resource].append(hold)
    for wait in clipped(waits, period):
        jobs[_row(wait)] += Hours(waited=wait.devices * Fraction(wait.end - wait.start, _HOUR))
    for (flavor, resource), of_pool in pools.items():
        for hours, active in _stretches(of_pool):
            over = _above_quota(active, quotas)
            for hold, amount in over:
                jobs[_row(hold)] += Hours(borrowed=amount * hours)
            for queue, amount in _loans(active, over, quotas, flavor, resource):
                lent[queue, resource] += amount * hours
    return Reckoning(dict(jobs), dict(lent))


def clipped(intervals: Iterable[_Kind], period: Period) -> Iterator[_Kind]:
    """What of intervals lies in a period; those without any are left out."""
    for each in intervals:
        start, end = max(each.start, period.since), min(each.end, period.until)
        if start < end:
            yield replace(each, start=start, end=end)


def _row(each: Hold | Wait) -> Row:
    return each.queue, each.job, each.resource


def _stretches(holds: list[Hold]) -> Iterator[tuple[Fraction, list[Hold]]]:
    """Hours between two changes, with what is held meanwhile."""
    begins = [(each.start, True, at) for at, each in enumerate(holds)]
    ends = [(each.end, False, at) for at, each in enumerate(holds)]
    active: dict[int, Hold] = {}
    before = 0
    for moment, is_begin, at in sorted(begins + ends):
        if active and moment > before:
            yield Fraction(moment - before, _HOUR), list(active.values())
        before = moment
        if is_begin:
            active[at] = holds[at]
        else:
            del active[at]


def _by_queue(active: Iterable[Hold]) -> dict[str, Fraction]:
    total: defaultdict[str, Fraction] = defaultdict(Fraction)
    for hold in active:
        total[hold.queue] += hold.devices
    return dict(total)


def _above_quota(active: list[Hold], quotas: Quotas) -> list[tuple[Hold, Fraction]]:
    """What of each hold is borrowed: its part of what its queue holds above its own quota."""
    totals = _by_queue(active)
    found: list[tuple[Hold, Fraction]] = []
    for hold in active:
        total = totals[hold.queue]
        own = quotas.limits.get((hold.queue, str(hold.flavor), hold.resource), Limits()).nominal
        if total > own:
            found.append((hold, (total - own) * hold.devices / total))
    return found


def _loans(
    active: list[Hold], over: list[tuple[Hold, Fraction]], quotas: Quotas, flavor: str, resource: str
) -> Iterator[tuple[str, Fraction]]:
    """What each queue lends: its part of what its cohort borrows, by what it leaves idle."""
    taken: defaultdict[str, Fraction] = defaultdict(Fraction)
    for hold, amount in over:
        if hold.queue in quotas.cohorts:
            taken[quotas.cohorts[hold.queue]] += amount
    totals = _by_queue(active)
    for cohort, amount in taken.items():
        idle: dict[str, Fraction] = {}
        for queue, of in quotas.cohorts.items():
            limits = quotas.limits.get((queue, flavor, resource))
            if of == cohort and limits is not None:
                unused = max(Fraction(0), limits.nominal - totals.get(queue, Fraction(0)))
                idle[queue] = unused if limits.lending is None else min(unused, limits.lending)
        there = sum(idle.values(), quotas.shared.get((cohort, flavor, resource), Fraction(0)))
        for queue, unused in idle.items():
            if unused:
                yield queue, min(amount, there) * unused / there
