"""The join of near hashes, against the comparison of all with all."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.inspection import hamming_join
from data_pipeline.inspection.clusters import single_linkage
from data_pipeline.inspection.hamming_join import NearPairs, near_pairs, near_pairs_between
from data_pipeline.inspection.hash_bands import Band, PackedHashes, deal_bits, flips_of_bands, make_band, pack
from tests.laws import examples

SEEDS = st.integers(0, 2**32 - 1)


def distances(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """int [N, M], bit by bit."""
    bits, other_bits = (np.unpackbits(np.ascontiguousarray(side).view(np.uint8), axis=1) for side in (hashes, others))
    return (bits[:, None] != other_bits[None]).sum(axis=2)


def first_rows(hashes: np.ndarray) -> np.ndarray:
    """Which rows no earlier row equals."""
    return np.array([row == hashes.tolist().index(words) for row, words in enumerate(hashes.tolist())], dtype=bool)


def expected_pairs(hashes: np.ndarray, others: np.ndarray | None, radius: int) -> list[tuple[int, int, int]]:
    """What the docstrings say is given."""
    found = distances(hashes, hashes if others is None else others)
    left, right = first_rows(hashes), first_rows(hashes if others is None else others)
    given = (found <= radius) & left[:, None] & right[None]
    if others is None:
        given = np.triu(given | ((found == 0) & left[:, None]), 1)
    return [(int(row), int(column), int(found[row, column])) for row, column in np.argwhere(given)]


def listed(pairs: NearPairs) -> list[tuple[int, int, int]]:
    assert (pairs.first.dtype, pairs.second.dtype, pairs.distance.dtype) == (np.int64, np.int64, np.int16)
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True))


def hashes_of(seed: int, count: int, varying: int, centres: int, turned: int) -> np.ndarray:
    """Hashes about some centres, with up to so many bits turned; all share the bits that do not vary."""
    rng = np.random.default_rng(seed)
    bits = np.repeat(rng.integers(0, 2, (1, 256), dtype=np.uint8), count, axis=0)
    which = rng.choice(256, varying, replace=False)
    bits[:, which] = rng.integers(0, 2, (centres, varying), dtype=np.uint8)[rng.integers(0, centres, count)]
    for row in range(count):
        bits[row, rng.choice(which, min(varying, rng.integers(0, turned + 1)), replace=False)] ^= 1
    return np.packbits(bits, axis=1).view(np.uint64)


@st.composite
def sets(draw: st.DrawFn) -> np.ndarray:
    """Few distinct or many, far apart or near, with many shared bits or none: also none, one and equal ones."""
    varying = draw(st.sampled_from([1, 2, 7, 64, 65, 130, 256]))
    count, centres, turned = draw(st.integers(0, 40)), draw(st.integers(1, 40)), draw(st.sampled_from([0, 1, 5, 30]))
    return hashes_of(draw(SEEDS), count, varying, centres, turned)


RADII = st.sampled_from([0, 1, 2, 3, 5, 8, 17, 24, 40, 100, 255, 256])


@given(sets(), RADII)
def test_pairs_within_are_those_of_comparing_all_with_all(hashes: np.ndarray, radius: int) -> None:
    pairs = near_pairs(hashes, radius)
    assert listed(pairs) == expected_pairs(hashes, None, radius)
    assert (pairs.radius, pairs.lowered_from) == (radius, None)


@settings(max_examples=examples(0.5))
@given(sets(), sets(), SEEDS, RADII)
def test_pairs_between_are_those_of_comparing_all_with_all(
    hashes: np.ndarray, others: np.ndarray, seed: int, radius: int
) -> None:
    rng = np.random.default_rng(seed)
    if len(hashes):  # some of the others equal some of these
        others = np.concatenate([others, hashes[rng.integers(0, len(hashes), 5)]])
        others = others[rng.permutation(len(others))]
    assert listed(near_pairs_between(hashes, others, radius)) == expected_pairs(hashes, others, radius)
    assert listed(near_pairs_between(others, hashes, radius)) == expected_pairs(others, hashes, radius)


def bands_of(packed: PackedHashes, radius: int, number: int) -> tuple[Band, ...]:
    allowed = flips_of_bands(radius, number)
    return tuple(map(make_band, [packed] * number, deal_bits(packed, number), allowed))


def through_bands(packed: PackedHashes, bands: tuple[Band, ...], radius: int) -> list[tuple[int, int, int]]:
    """All that the bands find, as it comes: a pair that is found twice is there twice."""
    found = hamming_join._Found(radius, 10**9)
    parts = hamming_join._look_up(packed, bands, found)
    return sorted((*map(int, pair),) for part in parts for pair in zip(*part, strict=True))  # type: ignore[misc]


@settings(max_examples=examples(0.5))
@given(sets(), sets(), st.booleans(), st.integers(1, 40), st.data())
def test_no_plan_of_bands_misses_a_pair_or_finds_one_twice(
    hashes: np.ndarray, others: np.ndarray, between: bool, radius: int, data: st.DataObject
) -> None:
    hashes, others = np.unique(hashes, axis=0), np.unique(others, axis=0)
    packed = pack(hashes, others if between else None)
    if not packed.entropy:
        return
    fewest = next(number for number in range(1, radius + 2) if flips_of_bands(radius, number)[-1] <= 2)
    number = data.draw(st.integers(fewest, radius + 1), label="bands")
    bands = bands_of(packed, radius, number)
    expected = [pair for pair in expected_pairs(hashes, others if between else None, radius) if pair[2]]
    assert through_bands(packed, bands, radius) == expected


@given(sets(), sets(), st.booleans(), st.integers(0, 3), st.integers(1, 12))
def test_candidates_are_counted_before_they_are_made(
    hashes: np.ndarray, others: np.ndarray, between: bool, flips: int, width: int
) -> None:
    hashes, others = np.unique(hashes, axis=0), np.unique(others, axis=0)
    packed = pack(hashes, others if between else None)
    if not packed.entropy:
        return
    band = make_band(packed, range(min(width, len(packed.entropy))), flips)
    made = [pair for part in band.near(packed, 64) for pair in zip(part[0].tolist(), part[1].tolist(), strict=True)]
    other_keys = (band.keys if band.others is None else band.others).tolist()
    near = {
        (row, other)
        for row, key in enumerate(band.keys.tolist())
        for other, other_key in enumerate(other_keys)
        if (key ^ other_key).bit_count() <= flips and (between or row < other)
    }
    assert sorted(made if between else [(min(pair), max(pair)) for pair in made]) == sorted(near)
    assert band.count_candidates() == len(made)


@given(st.integers(0, 256), st.data())
def test_flips_of_bands_are_the_fewest_that_miss_no_pair(radius: int, data: st.DataObject) -> None:
    """Turning one bit more in each band takes just more than the radius."""
    flips = flips_of_bands(radius, data.draw(st.integers(1, radius + 1)))
    assert min(flips) >= 0
    assert sum(few + 1 for few in flips) == radius + 1


@pytest.mark.parametrize(("shared", "radius"), [(0, 24), (0, 8), (128, 12)])
def test_many_hashes_go_through_bands_and_none_is_missed(shared: int, radius: int, monkeypatch: Any) -> None:
    """12,000 hashes with 300 planted neighbours, at all distances up to the radius."""
    rng = np.random.default_rng(11)
    hashes = rng.integers(0, 2**64, (12_000, 4), dtype=np.uint64)
    hashes[:, : shared // 64] = 3
    rows, planted = rng.permutation(12_000)[:600].reshape(2, 300)
    flips = np.arange(300) % (radius + 1)
    for row, near, count in zip(rows, planted, flips, strict=True):
        bits = np.zeros(256, dtype=np.uint8)
        bits[shared + rng.choice(256 - shared, count, replace=False)] = 1
        hashes[near] = hashes[row] ^ np.packbits(bits).view(np.uint64)
    monkeypatch.setattr(hamming_join, "_compare_all", None)
    pairs = near_pairs(hashes, radius)
    assert {(min(pair), max(pair)) for pair in zip(rows.tolist(), planted.tolist(), strict=True)} == set(
        zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    )
    assert sorted(pairs.distance.tolist()) == sorted(flips.tolist())
    half = near_pairs_between(hashes[:6_000], hashes[6_000:], radius)
    apart = (pairs.first < 6_000) & (pairs.second >= 6_000)
    assert np.array_equal(half.first, pairs.first[apart])
    assert np.array_equal(half.second + 6_000, pairs.second[apart])


def test_hashes_in_which_every_bit_differs_are_at_distance_256() -> None:
    hashes = np.array([[0] * 4, [2**64 - 1] * 4], dtype=np.uint64)
    assert listed(near_pairs(hashes, 255)) == []
    assert listed(near_pairs(hashes, 256)) == [(0, 1, 256)]
    assert listed(near_pairs_between(hashes[:1], hashes, 256)) == [(0, 0, 0), (0, 1, 256)]


def test_a_hundred_thousand_equal_images_make_as_many_pairs() -> None:
    hashes = np.tile(np.arange(4, dtype=np.uint64), (100_000, 1))
    hashes[17] ^= np.uint64(1)
    pairs = near_pairs(hashes, 24)
    assert listed(near_pairs(hashes[:2], 0)) == [(0, 1, 0)]
    assert len(pairs.first) == 99_999
    assert not pairs.first.any()
    assert np.flatnonzero(pairs.distance).tolist() == [16]
    assert listed(near_pairs_between(hashes, hashes, 24)) == [(0, 0, 0), (0, 17, 4), (17, 0, 4), (17, 17, 0)]


@given(sets(), RADII)
def test_components_are_those_of_all_pairs(hashes: np.ndarray, radius: int) -> None:
    pairs = near_pairs(hashes, radius)
    first, second = np.nonzero(distances(hashes, hashes) <= radius)
    expected = single_linkage(len(hashes), first, second)
    assert np.array_equal(single_linkage(len(hashes), pairs.first, pairs.second), expected)


@given(sets(), RADII, st.integers(0, 800))
def test_a_lowered_radius_is_said_and_exact_within_the_limit(hashes: np.ndarray, radius: int, most: int) -> None:
    pairs = near_pairs(hashes, radius, most_candidates=most)
    assert listed(pairs) == expected_pairs(hashes, None, pairs.radius)
    assert pairs.radius <= radius
    assert pairs.lowered_from == (None if pairs.radius == radius else radius)
    distinct = int(first_rows(hashes).sum())
    if distinct * (distinct - 1) // 2 <= most:
        assert pairs.lowered_from is None


@given(sets(), RADII, st.integers(0, 60))
def test_too_many_pairs_lower_the_radius_to_the_largest_that_has_few_enough(
    hashes: np.ndarray, radius: int, most: int
) -> None:
    unequal = [distance for *_, distance in expected_pairs(hashes, None, radius) if distance]
    largest = max(each for each in range(radius + 1) if sum(distance <= each for distance in unequal) <= most)
    pairs = near_pairs(hashes, radius, most_pairs=most)
    assert pairs.radius == largest
    assert pairs.lowered_from == (None if largest == radius else radius)
    assert listed(pairs) == expected_pairs(hashes, None, largest)


@given(SEEDS, st.sampled_from([64, 256]), st.integers(2, 24), st.integers(0, 300))
def test_a_radius_that_is_lowered_between_candidates_holds_for_all(
    seed: int, varying: int, radius: int, most: int
) -> None:
    hashes = np.unique(hashes_of(seed, count=40, varying=varying, centres=1, turned=5), axis=0)
    packed = pack(hashes, None)
    found = hamming_join._Found(radius, most)
    for part in hamming_join._look_up(packed, bands_of(packed, radius, radius // 3 + 1), found):
        found.add(*part)
    rows, none = np.arange(len(hashes)), np.zeros(0, dtype=np.int64)
    pairs = found.pairs(rows, rows, none, none)
    assert listed(pairs) == expected_pairs(hashes, None, pairs.radius)
    assert pairs.radius == near_pairs(hashes, radius, most_pairs=most).radius


def test_where_no_radius_can_be_had_equal_hashes_are_found() -> None:
    hashes = hashes_of(seed=3, count=200, varying=256, centres=150, turned=0)
    pairs = near_pairs(hashes, 24, most_candidates=0)
    assert (pairs.radius, pairs.lowered_from) == (0, 24)
    assert listed(pairs) == expected_pairs(hashes, None, 0)
    between = near_pairs_between(hashes[:100], hashes[100:], 24, most_candidates=0)
    assert (between.radius, between.lowered_from) == (0, 24)
    assert listed(between) == expected_pairs(hashes[:100], hashes[100:], 0) != []


@pytest.mark.parametrize("most", [10**4, 10**5, 10**6])
def test_the_radius_is_lowered_no_further_than_the_limit_asks(most: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(hamming_join, "_compare_all", None)  # above the limit
    hashes = np.random.default_rng(7).integers(0, 2**64, (5000, 4), dtype=np.uint64)
    radius = near_pairs(hashes, 60, most_candidates=most).radius
    assert 0 < radius < 60
    assert hamming_join._plan(pack(hashes, None), radius + 1, most) is None


@pytest.mark.parametrize(
    ("hashes", "radius", "message"),
    [
        (np.zeros((2, 4), dtype=np.int64), 1, "hashes is int64 [2, 4]; it must be uint64 [N, 4]"),
        (np.zeros((2, 3), dtype=np.uint64), 1, "hashes is uint64 [2, 3]; it must be uint64 [N, 4]"),
        (np.zeros(4, dtype=np.uint64), 1, "hashes is uint64 [4]; it must be uint64 [N, 4]"),
        (np.zeros((2, 4), dtype=np.uint64), -1, "radius=-1 must lie from 0 to 256"),
        (np.zeros((2, 4), dtype=np.uint64), 257, "radius=257 must lie from 0 to 256"),
    ],
)
def test_what_is_no_hash_and_no_radius_is_refused(hashes: np.ndarray, radius: int, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        near_pairs(hashes, radius)
    with pytest.raises(ValueError, match=re.escape(message)):
        near_pairs_between(hashes, np.zeros((1, 4), dtype=np.uint64), radius)


def test_the_other_side_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match=re.escape("others is float64 [1, 4]")):
        near_pairs_between(np.zeros((1, 4), dtype=np.uint64), np.zeros((1, 4)), 1)  # type: ignore[arg-type]
