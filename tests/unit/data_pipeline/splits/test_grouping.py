"""Groups found in file names."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.splits.grouping import groups_by_gap, groups_by_pattern

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
