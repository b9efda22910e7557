"""Hours that are reckoned from intervals: what holds for all of them, and a count second by second to compare with."""

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from cluster.kube.queues.capacity import Limits
from cluster.kube.queues.quantities import GPU
from cluster.kube.queues.usage import Hold, Hours, Period, Quotas, Reckoning, Wait, clipped, reckon
from cluster.kube.queues.usage_view import usage_of

MIG = "nvidia.com/mig-1g.10gb"
QUEUES, FLAVORS = ("a", "b", "c"), ("a100", "l4")
ALWAYS = Period(0, 10_000)
TIMES = st.integers(0, 40)


@st.composite
def holds(draw: st.DrawFn) -> Hold:
    start, length = draw(TIMES), draw(st.integers(1, 20))
    devices = Fraction(draw(st.integers(1, 8)))
    flavor = draw(st.sampled_from((*FLAVORS, None)))
    resource = draw(st.sampled_from((GPU, MIG)))
    job = draw(st.sampled_from(("x", "y", "z")))
    return Hold(draw(st.sampled_from(QUEUES)), job, resource, devices, start, start + length, flavor)


@st.composite
def quotas(draw: st.DrawFn) -> Quotas:
    limits = {
        (queue, flavor, resource): Limits(
            Fraction(draw(st.integers(0, 8))), None, draw(st.none() | st.integers(0, 8).map(Fraction))
        )
        for queue in QUEUES
        for flavor in FLAVORS
        for resource in (GPU, MIG)
    }
    cohorts = {queue: "pool" for queue in QUEUES if draw(st.booleans())}
    shared = {("pool", flavor, GPU): Fraction(draw(st.integers(0, 4))) for flavor in FLAVORS}
    return Quotas(limits, cohorts, shared)


HOLDS = st.lists(holds(), max_size=8)


def total(reckoning: Reckoning) -> Hours:
    return sum(reckoning.jobs.values(), Hours())


@given(HOLDS, quotas())
def test_used_is_the_sum_of_the_intervals_and_no_more_of_it_is_borrowed(given_: list[Hold], owned: Quotas) -> None:
    reckoning = reckon(given_, [], owned, ALWAYS)
    expected: defaultdict[tuple[str, str, str], Fraction] = defaultdict(Fraction)
    for hold in given_:
        expected[hold.queue, hold.job, hold.resource] += hold.devices * Fraction(hold.end - hold.start, 3600)
    assert {row: hours.used for row, hours in reckoning.jobs.items()} == expected
    for hours in reckoning.jobs.values():
        assert 0 <= hours.borrowed <= hours.used - hours.unplaced
        assert hours.waited == 0


@given(HOLDS, quotas(), st.data())
def test_splitting_an_interval_changes_nothing(given_: list[Hold], owned: Quotas, data: st.DataObject) -> None:
    parts: list[Hold] = []
    for hold in given_:
        at = data.draw(st.integers(hold.start, hold.end))
        parts += [each for each in (replace(hold, end=at), replace(hold, start=at)) if each.start < each.end]
    assert reckon(data.draw(st.permutations(parts)), [], owned, ALWAYS) == reckon(given_, [], owned, ALWAYS)


@given(HOLDS, quotas(), TIMES)
def test_two_periods_side_by_side_are_one(given_: list[Hold], owned: Quotas, at: int) -> None:
    whole = total(reckon(given_, [], owned, ALWAYS))
    parts = [total(reckon(given_, [], owned, each)) for each in (Period(0, at), Period(at, 10_000))]
    assert parts[0] + parts[1] == whole


@given(HOLDS, quotas())
def test_what_is_lent_is_what_is_borrowed_where_all_lend_and_borrow_within_a_cohort(
    given_: list[Hold], owned: Quotas
) -> None:
    # A lender with as much as everybody holds together, and without limits: nothing can come from outside.
    everything = sum((hold.devices for hold in given_), Fraction(0))
    limits = {key: Limits(each.nominal) for key, each in owned.limits.items()}
    limits |= {("lender", flavor, name): Limits(everything) for flavor in FLAVORS for name in (GPU, MIG)}
    closed = Quotas(limits, dict.fromkeys((*QUEUES, "lender"), "pool"))
    reckoning = reckon(given_, [], closed, ALWAYS)
    assert sum(reckoning.lent.values(), Fraction(0)) == total(reckoning).borrowed


@given(HOLDS, quotas())
def test_never_more_is_lent_than_is_borrowed(given_: list[Hold], owned: Quotas) -> None:
    reckoning = reckon(given_, [], owned, ALWAYS)
    assert sum(reckoning.lent.values(), Fraction(0)) <= total(reckoning).borrowed
    assert all(queue in owned.cohorts for queue, _ in reckoning.lent)


@given(HOLDS, quotas())
def test_the_sweep_is_the_count_of_each_second(given_: list[Hold], owned: Quotas) -> None:
    borrowed: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for second in range(61):
        held: defaultdict[tuple[str, str, str], Fraction] = defaultdict(Fraction)
        for hold in given_:
            if hold.flavor is not None and hold.start <= second < hold.end:
                held[hold.queue, hold.flavor, hold.resource] += hold.devices
        for (queue, flavor, resource), amount in held.items():
            over = amount - owned.limits[queue, flavor, resource].nominal
            borrowed[queue, resource] += max(Fraction(0), over) / 3600
    found: defaultdict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for (queue, _, resource), hours in reckon(given_, [], owned, ALWAYS).jobs.items():
        found[queue, resource] += hours.borrowed
    assert {key: each for key, each in found.items() if each} == {key: each for key, each in borrowed.items() if each}


def test_jobs_of_a_queue_borrow_by_what_they_hold_and_queues_lend_by_what_they_leave_idle() -> None:
    limits = {("a", "h100", GPU): Limits(Fraction(2)), ("b", "h100", GPU): Limits(Fraction(6))}
    limits |= {("c", "h100", GPU): Limits(Fraction(4), lending=Fraction(2))}
    owned = Quotas(limits, dict.fromkeys("abc", "pool"))
    held = [Hold("a", "x", GPU, Fraction(4), 0, 7200, "h100"), Hold("a", "y", GPU, Fraction(2), 0, 3600, "h100")]
    reckoning = reckon(held, [], owned, ALWAYS)
    # In the first hour 6 are held and 4 borrowed, in the second 4 and 2.
    assert reckoning.jobs["a", "x", GPU].borrowed == Fraction(4 * 4, 6) + 2
    assert reckoning.jobs["a", "y", GPU].borrowed == Fraction(4 * 2, 6)
    assert reckoning.lent == {("b", GPU): Fraction(6 * 6, 8), ("c", GPU): Fraction(6 * 2, 8)}


def test_waiting_counts_within_the_period_only() -> None:
    waits = [Wait("a", "x", GPU, Fraction(4), -3600, 1800), Wait("a", "x", MIG, Fraction(1), 0, 7200)]
    jobs = reckon([], waits, Quotas({}, {}), Period(0, 3600)).jobs
    assert {row[2]: hours.waited for row, hours in jobs.items()} == {GPU: 2, MIG: 1}


def test_what_lies_outside_a_period_is_left_out() -> None:
    hold = Hold("a", "x", GPU, Fraction(1), 10, 20, None)
    assert list(clipped([hold], Period(0, 10))) == list(clipped([hold], Period(20, 30))) == []
    assert list(clipped([hold], Period(12, 15))) == [replace(hold, start=12, end=15)]


def test_the_only_flavor_of_a_resource_is_known_and_one_of_several_is_not() -> None:
    zero, some = Limits(), Limits(Fraction(4))
    limits = {("a", "cpu", GPU): zero, ("a", "h100", GPU): zero, ("a", "l4", GPU): zero, ("b", "h100", GPU): some}
    cohorts = {"a": "pool", "b": "pool"}
    assert Quotas(limits, cohorts).only_flavor("a", GPU) == "h100"
    assert Quotas(limits, {}).only_flavor("a", GPU) is None
    assert Quotas({**limits, ("b", "l4", GPU): some}, cohorts).only_flavor("a", GPU) is None
    assert Quotas({**limits, ("b", "a100", GPU): some}, cohorts).only_flavor("a", GPU) == "h100"
    assert Quotas(limits, cohorts).only_flavor("a", MIG) is None


def test_quota_of_the_cohort_itself_is_a_flavor_too() -> None:
    limits = {("a", "a100", GPU): Limits(Fraction(4)), ("a", "l4", GPU): Limits()}
    assert Quotas(limits, {"a": "pool"}).only_flavor("a", GPU) == "a100"
    shared = {("pool", "l4", GPU): Fraction(8)}
    assert Quotas(limits, {"a": "pool"}, shared).only_flavor("a", GPU) is None
    assert Quotas(limits, {}, shared).only_flavor("a", GPU) == "a100"


def test_jobs_of_a_team_that_is_not_counted_are_not_listed() -> None:
    limits = {(queue, "a100", GPU): Limits(Fraction(4)) for queue in ("a", "b")}
    recorded = [Hold(queue, "x", GPU, Fraction(1), 0, 3600, "a100") for queue in ("a", "b")]
    view = usage_of(Quotas(limits, {}), [], recorded, {"a": "no permission"}, Period(0, 7200), ("a", "b"))
    assert [job.team for job in view.jobs] == ["b"]
    assert [team.team for team in view.teams] == ["b"]
    assert view.hidden == {"a": "no permission"}
