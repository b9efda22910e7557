"""Groups found in file names."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.splits.grouping import groups_by_gap, groups_by_pattern, joined_groups

IDS = ["a/part7-01.png", "a/part7-02.png", "b/part12-01.png", "b/other.png"]


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"part(\d+)", ("7", "7", "12", None)),
        (r"part\d+", ("part7", "part7", "part12", None)),
        (r"^(a)/|part", ("a", "a", None, None)),
        (r"x*", (None, None, None, None)),
    ],
)
def test_a_patterns_first_group_or_its_match_names_the_group(pattern: str, groups: tuple[str | None, ...]) -> None:
    assert groups_by_pattern(IDS, re.compile(pattern)) == groups


def test_neighbouring_numbers_of_a_class_chain() -> None:
    ids = [
        "a/IMG_0010.jpg",
        "a/IMG_0011.jpg",
        "a/IMG_0014.jpg",
        "b/IMG_0012.jpg",
        "b/c5/none.2d.jpg",
        "a/IMG_0013",
        "b/x.png",
    ]
    classes = ["a", "a", "a", "b", "b", "a", "b"]
    assert groups_by_gap(ids, classes, 1) == ("a 10-11", "a 10-11", "a 13-14", "b 12-12", "b 2-2", "a 13-14", None)
    assert groups_by_gap(ids, classes, 2) == ("a 10-14",) * 3 + ("b 12-12", "b 2-2", "a 10-14", None)


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from("ab")), max_size=30), st.integers(1, 5))
def test_images_are_together_exactly_where_no_gap_lies_between(images: list[tuple[int, str]], gap: int) -> None:
    ids = [f"{name}/{row}/img{number}.png" for row, (number, name) in enumerate(images)]
    groups = groups_by_gap(ids, [name for _, name in images], gap)
    for (number, name), group in zip(images, groups, strict=True):
        for (other, other_name), other_group in zip(images, groups, strict=True):
            low, high = sorted((number, other))
            between = sorted({each for each, of in images if of == name and low <= each <= high})
            chained = name == other_name and all(b - a <= gap for a, b in itertools.pairwise(between))
            assert (group == other_group) == chained


def components(one: list[str | None], other: list[str | None]) -> list[set[int]]:
    """The rows that each row is joined with, breadth first."""
    found = []
    for row in range(len(one)):
        reached, waiting = {row}, [row]
        while waiting:
            at = waiting.pop(0)
            for groups in (one, other):
                new = {place for place, name in enumerate(groups) if name is not None and name == groups[at]} - reached
                reached |= new
                waiting += sorted(new)
        found.append(reached)
    return found


@given(
    st.lists(st.tuples(st.none() | st.sampled_from("abcdefgh"), st.none() | st.sampled_from("ABCDEFGH")), max_size=14)
)
def test_joined_groups_hold_whoever_shares_one_in_either_grouping(rows: list[tuple[str | None, str | None]]) -> None:
    one, other = [first for first, _ in rows], [second for _, second in rows]
    joined = joined_groups(one, other)
    together = components(one, other)
    for row, group in enumerate(joined):
        if one[row] is None and other[row] is None:
            assert group is None
            continue
        assert {place for place, name in enumerate(joined) if name == group} == together[row]
        names = [{groups[place] for place in together[row]} - {None} for groups in (one, other)]
        assert group == min(names[0] or names[1])


def test_joined_groups_follow_long_chains() -> None:
    one = [f"a{row // 2:04d}" for row in range(4000)]
    other = [f"b{(row + 1) // 2:04d}" for row in range(4000)]
    assert set(joined_groups(one, other)) == {"a0000"}
    assert joined_groups(one, [None] * 4000) == tuple(one)
    assert joined_groups([None] * 4000, other) == tuple(other)
    assert joined_groups([], []) == ()


def test_groupings_of_other_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        joined_groups(["a", "b"], ["c"])
