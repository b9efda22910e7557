"""Components, clusters and medoids, against what a few plain lines find."""

import re
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.inspection.clusters import clusters, medoid, single_linkage


def components(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Breadth first, from the smallest row that has no label yet."""
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for first, second in pairs:
        neighbours[first].append(second)
        neighbours[second].append(first)
    labels = [-1] * count
    for row in range(count):
        if labels[row] < 0:
            labels[row] = max(labels) + 1
            queue = deque([row])
            while queue:
                for other in neighbours[queue.popleft()]:
                    if labels[other] < 0:
                        labels[other] = labels[row]
                        queue.append(other)
    return labels


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 40))
    rows = st.integers(0, count - 1)
    return count, draw(st.lists(st.tuples(rows, rows), max_size=50))


@given(graphs())
def test_labels_are_those_of_a_breadth_first_search(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = graph
    labels = single_linkage(count, *columns(pairs))
    assert labels.dtype == np.int64
    assert labels.tolist() == components(count, pairs)


@given(st.permutations(range(60)))
def test_a_chain_in_any_order_is_one_component(order: list[int]) -> None:
    assert not single_linkage(60, np.array(order[:-1]), np.array(order[1:])).any()


def test_no_rows_and_no_pairs() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert single_linkage(0, none, none).tolist() == []
    assert single_linkage(3, none, none).tolist() == [0, 1, 2]
    assert clusters(none) == []
    assert clusters(np.arange(3)) == []


@pytest.mark.parametrize("graph", ["chain", "random", "star", "comb"])
def test_many_pairs_take_few_rounds(graph: str) -> None:
    """Were there a round for each row of a chain, this would take hours."""
    count = 200_000
    rng = np.random.default_rng(5)
    rows = rng.permutation(count)
    first, second = {
        "chain": (rows[:-1], rows[1:]),
        "random": (rng.integers(0, count, count), rng.integers(0, count, count)),
        "star": (np.zeros(count - 1, dtype=np.int64), np.arange(1, count)),
        "comb": (np.arange(count // 2), np.arange(count // 2, count)),
    }[graph]
    labels = single_linkage(count, first, second)
    assert np.array_equal(labels[first], labels[second])
    smallest = np.unique(labels, return_index=True)[1]
    assert np.array_equal(labels[smallest], np.arange(len(smallest)))
    assert np.all(np.diff(smallest) > 0)
    expected = {"chain": 1, "star": 1, "comb": count // 2}
    assert len(smallest) == expected.get(graph, len(smallest))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0, 1], [1], "first has shape [2] and second [1]"),
        ([0], [3], "second has rows from 3 to 3; they must lie from 0 to 2"),
        ([-1, 1], [1, 2], "first has rows from -1 to 1"),
    ],
)
def test_pairs_that_cannot_be_are_refused(first: list[int], second: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        single_linkage(3, np.array(first), np.array(second))


@given(st.lists(st.integers(0, 12), max_size=40))
def test_clusters_are_all_components_of_two_or_more_largest_first(values: list[int]) -> None:
    seen: dict[int, list[int]] = {}
    for row, value in enumerate(values):
        seen.setdefault(value, []).append(row)
    labels = np.array([list(seen).index(value) for value in values], dtype=np.int64)
    expected = sorted((rows for rows in seen.values() if len(rows) > 1), key=lambda rows: (-len(rows), rows[0]))
    assert [rows.tolist() for rows in clusters(labels)] == expected


def distance(first: np.ndarray, second: np.ndarray) -> int:
    return sum(int(a ^ b).bit_count() for a, b in zip(first.tolist(), second.tolist(), strict=True))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 6))
def test_the_medoid_is_nearest_to_all_in_either_orientation(seed: int, count: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    hashes, mirrored = rng.integers(0, 2**bits, (2, 20, 4), dtype=np.uint64)  # few bits: sums are often equal
    members = np.sort(rng.choice(20, count, replace=False))
    sums = {
        int(row): sum(
            min(distance(hashes[row], hashes[other]), distance(hashes[row], mirrored[other]))
            for other in members
            if other != row
        )
        for row in members
    }
    assert medoid(hashes, members, mirrored) == min(sums, key=lambda row: (sums[row], row))


def test_members_of_a_large_cluster_are_compared_with_the_first_thousand() -> None:
    """The 1,001st and later ones are alike, and would outvote the first 1,000."""
    hashes = np.zeros((3000, 4), dtype=np.uint64)
    hashes[:1000] = 2**64 - 1
    hashes[:1000, 0] -= np.arange(1000, dtype=np.uint64) % 7
    far = ~hashes
    far[:] = np.uint64(0x5555555555555555)
    members = np.arange(3000)
    assert medoid(hashes, members, far) < 1000
    assert medoid(hashes, members[::-1], far) >= 1000
