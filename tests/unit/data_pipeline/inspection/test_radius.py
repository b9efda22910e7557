"""How near copies are: the radius against the law that it is chosen by, and against planted copies."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_pipeline.inspection.hashing import BITS
from data_pipeline.inspection.radius import MOST, WRONG_SHARE, Radius, radius_of
from data_pipeline.listing.samples import key_of
from tests.laws import examples

SEEDS = st.integers(0, 2**32 - 1)


def packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """uint64 [N, 4] of [N, BITS]."""
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)


def random_bits(count: int, seed: int, repeated: int = 1) -> NDArray[np.bool_]:
    """[count, BITS], `repeated` neighbours alike, so that distances of two rows spread by 8 times its root."""
    independent = np.random.default_rng(seed).integers(0, 2, (count, BITS // repeated), dtype=np.uint8)
    return np.repeat(independent, repeated, axis=1).astype(np.bool_)


def keys(count: int) -> NDArray[np.uint64]:
    return np.array([key_of(f"{row}.png") for row in range(count)], np.uint64)


def found(bits: NDArray[np.bool_], classes: int = 2, given_bits: int | None = None) -> Radius:
    count = len(bits)
    return radius_of(packed(bits), np.arange(count) % classes, keys(count), given_bits)


@given(st.integers(0, BITS), st.integers(0, 60), st.integers(1, 3), SEEDS)
def test_the_given_radius_wins(given_bits: int, count: int, classes: int, seed: int) -> None:
    radius = found(random_bits(count, seed), classes, given_bits)
    chosen = found(random_bits(count, seed), classes)
    assert (radius.bits, radius.given, chosen.given) == (given_bits, True, False)
    assert (radius.median, radius.spread, radius.pairs) == (chosen.median, chosen.spread, chosen.pairs)
    assert radius.false_match_rate == pytest.approx(
        min(1.0, 2 * NormalDist(radius.median, radius.spread).cdf(given_bits + 0.5))
    )


@settings(max_examples=examples(0.5))
@given(st.integers(2, 400), st.integers(1, 4), st.sampled_from([1, 2, 4]), SEEDS)
def test_it_is_the_largest_that_makes_false_matches_a_hundred_times_as_rare_as_they_may_be(
    count: int, classes: int, repeated: int, seed: int
) -> None:
    radius = found(random_bits(count, seed, repeated), classes)
    assert 0 <= radius.bits <= MOST
    wanted = WRONG_SHARE / 100 / (2 * (count - 1))
    distances = NormalDist(radius.median, radius.spread)
    assert radius.bits == 0 or distances.cdf(radius.bits) <= wanted
    assert radius.bits == MOST or distances.cdf(radius.bits + 1) > wanted
    assert radius.bits == 0 or radius.false_match_rate * (count - 1) <= WRONG_SHARE


@given(st.integers(0, 300), st.integers(0, 300))
def test_where_nothing_is_known_of_differing_images_it_falls_as_there_are_more(count: int, other: int) -> None:
    few, many = (found(np.zeros((each, BITS), np.bool_), classes=1) for each in sorted((count, other)))
    assert few.bits >= many.bits
    assert (few.median, few.spread, few.pairs) == (BITS / 2, 12.0, 0)


@pytest.mark.parametrize("repeated", [1, 2, 4])
def test_it_falls_as_a_set_grows(repeated: int) -> None:
    """Of few images little is known of the spread, so the sets are large."""
    bits = random_bits(8000, 3, repeated)
    assert found(bits[:800]).bits > found(bits).bits


@pytest.mark.parametrize(("repeated", "spread"), [(1, 8.0), (2, 11.3), (4, 16.0)])
def test_the_median_and_the_spread_are_those_of_the_distances(repeated: int, spread: float) -> None:
    radius = found(random_bits(1000, 0, repeated))
    assert radius.median == pytest.approx(BITS / 2, abs=2)
    assert spread * 0.9 < radius.spread < spread * 1.2
    assert radius.pairs == pytest.approx(200_000, rel=0.02)


def with_families(shared: int, families: int = 20) -> NDArray[np.bool_]:
    """400 images of two classes; of pairs of different labels one in so many has so many bits in common."""
    bits = random_bits(400, 0)
    family = np.arange(400) // 2 % families
    bits[:, :shared] = random_bits(families, 1)[family, :shared]
    return bits


def test_where_some_pairs_are_nearer_the_hundredth_counts() -> None:
    alone, together = found(random_bits(400, 0)), found(with_families(40))
    assert together.median == pytest.approx(BITS / 2, abs=2)
    assert alone.spread < 9 < 10 < together.spread < 12.5
    assert together.bits < alone.bits - 8


def test_where_many_pairs_are_nearer_the_tenth_counts() -> None:
    """A quarter of the pairs is about 104 bits apart: the tenth lies at 102, the hundredth at 91."""
    assert found(with_families(48, families=4)).spread == 16.0


def test_of_spreads_that_nobody_can_explain_only_very_near_images_are_copies() -> None:
    """Copies of different labels in many pairs, and images that share most of what they show, look alike from here."""
    alike = found(random_bits(1000, 0, 16))
    families = found(with_families(240))
    assert (alike.spread, families.spread) == (16.0, 16.0)
    assert 20 < alike.bits < 50
    assert 20 < families.bits < 50


def test_images_far_apart_have_the_largest_radius() -> None:
    """Two classes of negatives: all images of different classes differ in nearly all bits."""
    bits = np.repeat([random_bits(1, 0)[0]], 200, axis=0)
    bits[1::2] = ~bits[1::2]
    bits ^= np.random.default_rng(1).random(bits.shape) < 0.02
    radius = found(bits)
    assert radius.median > 240
    assert radius.bits == MOST


def test_images_that_all_look_alike_have_a_radius_of_nothing() -> None:
    radius = found(random_bits(400, 0) & (np.arange(BITS) < 4))
    assert (radius.bits, radius.spread) == (0, pytest.approx(1.0, abs=1.0))


def test_distances_within_a_class_do_not_count() -> None:
    """All images of a class are one; the two classes are 100 bits apart."""
    bits = np.zeros((300, BITS), np.bool_)
    bits[1::2, :100] = True
    radius = found(bits)
    assert (radius.median, radius.spread) == (100.0, 1.0)
    assert radius.bits == 94, "a standard deviation of 1 is the least"


@pytest.mark.parametrize(("count", "classes"), [(0, 1), (1, 1), (2, 2), (10, 2), (30, 2), (500, 1)])
def test_few_pairs_tell_nothing(count: int, classes: int) -> None:
    radius = found(random_bits(count, 0, 4), classes)
    assert (radius.median, radius.spread) == (128.0, 12.0)
    assert radius.pairs < 500


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("count", "copies", "most"), [(50, 1, 6), (100, 3, 5), (400, 20, 2), (1500, 100, 2)])
def test_copies_of_different_labels_hardly_move_it(count: int, copies: int, most: int, seed: int) -> None:
    bits = random_bits(count, seed)
    before = found(bits)
    for copy in range(copies):
        bits[2 * copy + 1] = bits[2 * copy]
        bits[2 * copy + 1, :10] ^= True
    after = found(bits)
    assert abs(after.bits - before.bits) <= most
    assert after.bits >= 60, "so that they are found"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("count", "copies"), [(32, 3), (40, 5), (40, 10), (60, 8), (60, 30)])
def test_in_a_small_set_copies_of_different_labels_are_within_it_all_the_same(
    count: int, copies: int, seed: int
) -> None:
    bits = random_bits(count, seed)
    bits[1 : 2 * copies : 2] = bits[0 : 2 * copies : 2]
    bits[1 : 2 * copies : 2, :25] ^= True
    assert found(bits).bits >= 25


def test_it_is_a_pure_function() -> None:
    bits = random_bits(300, 0)
    assert found(bits) == found(bits.copy())


def test_it_depends_on_labels_only_by_which_images_differ() -> None:
    bits = packed(random_bits(300, 0))
    labels = np.arange(300) % 3
    assert radius_of(bits, labels, keys(300)) == radius_of(bits, 7 - 2 * labels, keys(300))
