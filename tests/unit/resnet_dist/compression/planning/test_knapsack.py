import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.compression.planning.knapsack import Group, solve

_options = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=5)


def _group(pairs: list[tuple[int, int]]) -> Group:
    costs, values = zip(*pairs, strict=True)
    return Group(np.array(costs, dtype=np.float64), np.array(values, dtype=np.float64))


def _sums(groups: list[Group], chosen: tuple[int, ...] | list[int]) -> tuple[float, float]:
    pairs = list(zip(groups, chosen, strict=True))
    return sum(float(group.costs[place]) for group, place in pairs), sum(float(g.values[place]) for g, place in pairs)


@given(st.lists(_options, min_size=1, max_size=4), st.integers(0, 40))
def test_whole_numbers_are_solved_as_by_trying_everything(pairs: list[list[tuple[int, int]]], budget: int):
    groups = [_group(each) for each in pairs]
    left = budget - int(sum(group.costs.min() for group in groups))
    found = solve(groups, float(budget), cells=max(1, left))
    every = [(_sums(groups, each), each) for each in itertools.product(*(range(len(group.costs)) for group in groups))]
    paid = [(value, -cost) for (cost, value), _ in every if cost <= budget]
    assert (found is None) == (not paid)
    if found is not None:
        cost, value = _sums(groups, found)
        assert (value, -cost) == max(paid)  # and of equal values the cheapest


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0.0, 1e3), st.floats(0.0, 1e3)), min_size=1, max_size=5), min_size=1, max_size=4
    ),
    st.floats(0.0, 4e3),
    st.integers(1, 64),
)
def test_the_budget_is_never_exceeded_on_any_grid(pairs: list[list[tuple[float, float]]], budget: float, cells: int):
    groups = [_group(each) for each in pairs]  # pyright: ignore[reportArgumentType]
    cheapest = sum(float(group.costs.min()) for group in groups)
    found = solve(groups, budget, cells)
    assert (found is None) == (cheapest > budget)
    if found is not None:
        assert _sums(groups, found)[0] <= budget * (1 + 1e-12) + 1e-300
        assert solve(groups, budget, cells) == found


def test_of_equal_options_the_first_is_taken():
    groups = [_group([(3, 5), (2, 5), (2, 5), (9, 1)]), _group([(1, 0), (1, 0)])]
    assert solve(groups, 20.0) == [1, 0]


def test_a_finer_grid_is_never_worse_where_it_splits_the_cells():
    draw = np.random.default_rng(3)
    groups = [Group(draw.random(40), draw.random(40)) for _ in range(6)]
    values = [_sums(groups, solve(groups, 1.5, cells) or [])[1] for cells in (8, 32, 128, 512)]
    assert values == sorted(values)
    assert values[0] < values[-1]


def test_sixteen_blocks_of_a_thousand_options_take_no_time():
    steps = np.arange(1000, dtype=np.float64)
    groups = [Group(steps * (1 + number), np.sqrt(steps)) for number in range(16)]
    start = time.process_time()
    found = solve(groups, 30_000.0)
    assert found is not None
    assert _sums(groups, found)[0] <= 30_000.0
    assert time.process_time() - start < 5.0


@pytest.mark.parametrize(
    ("costs", "values"), [([], []), ([1.0], [1.0, 2.0]), ([-1.0], [1.0]), ([np.nan], [1.0]), ([1.0], [np.inf])]
)
def test_a_group_of_no_numbers_is_refused(costs: list[float], values: list[float]):
    with pytest.raises(ValueError, match="a group"):
        Group(np.array(costs), np.array(values))
