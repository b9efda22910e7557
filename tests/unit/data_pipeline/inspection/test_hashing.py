"""Hashes against their definition, written with scipy's DCT and singular values, and what they leave out.

Thumbnails are of `tests.textures`, all different.
"""

from functools import cache, lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.fft import dctn

from data_pipeline.inspection import hashing
from data_pipeline.inspection.hashing import BITS, MODES, Reference, hashes_of, reference_of, shows_something
from data_pipeline.inspection.thumbnails import SIDE, look_at
from tests.laws import examples

NOTHING = Reference(np.zeros(BITS), np.zeros((0, BITS)), 0)
SEEDS = st.integers(0, 2**32 - 1)
ORDER = sorted(((u, v) for u in range(SIDE) for v in range(SIDE)), key=lambda at: at[0] ** 2 + at[1] ** 2)[1 : BITS + 1]

PLACES = np.arange(BITS)


def distances(hashes: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.bitwise_count(hashes ^ others).sum(axis=1, dtype=np.int64)


def waves(thumbnails: NDArray[np.uint16]) -> NDArray[np.float64]:
    """[N, BITS] by their definition."""
    centred = thumbnails - thumbnails.mean(axis=(1, 2), keepdims=True)
    found = dctn(centred / np.linalg.norm(centred, axis=(1, 2), keepdims=True), type=2, axes=(1, 2), norm="ortho")
    return np.stack([found[:, u, v] for u, v in ORDER], axis=1)


@lru_cache(maxsize=8)
def smooth(seed: int, count: int) -> NDArray[np.uint16]:
    """Random thumbnails of low frequencies, of 5 to 250 levels."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 12, 12))
    left, right = rng.normal(size=(2, SIDE, 12))
    values = left @ coarse @ right.T
    low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    return np.rint((5 + 245 * (values - low) / (high - low)) * 256).astype(np.uint16)


@pytest.mark.parametrize(("images", "modes"), [(5, 0), (31, 0), (32, 0), (63, 0), (64, 1), (300, 4), (600, 8)])
def test_bits_are_the_signs_of_low_frequencies_without_what_the_set_has_in_common(images: int, modes: int) -> None:
    given_set = smooth(images, images)
    given_set = (
        given_set // 2 + smooth(1, 1) // 2 + np.linspace(0, 9, images).astype(np.uint16)[:, None, None]
    ).astype(np.uint16)
    every = waves(given_set)
    mean = every.mean(axis=0) if images >= 32 else np.zeros(BITS)
    strongest = np.linalg.svd(every - mean, full_matrices=False)[2][:modes]
    reference = reference_of(given_set)
    assert reference.images == images
    assert np.allclose(reference.mean, mean, atol=1e-12)
    assert reference.modes.shape == (modes, BITS)
    assert np.allclose(reference.modes @ reference.modes.T, np.eye(modes), atol=1e-10)
    assert np.allclose(reference.modes.T @ reference.modes, strongest.T @ strongest, atol=1e-6)
    left = every - mean
    left -= left @ strongest.T @ strongest
    found = hashes_of(given_set, reference)
    assert (found.dtype, found.shape) == (np.uint64, (images, 4))
    bits = (found[:, PLACES // 64] >> (PLACES % 64).astype(np.uint64)) & np.uint64(1)
    certain = np.abs(left) > 1e-8
    assert certain.mean() > 0.99
    assert np.array_equal(bits[certain], left[certain] > 0)


def test_there_are_never_more_than_so_many_modes() -> None:
    assert len(reference_of(smooth(0, 64 * (MODES + 1))).modes) == MODES


@cache
def reference_of_textures() -> Reference:
    return reference_of(smooth(1, 70))


@settings(max_examples=examples(0.3))
@given(SEEDS, st.integers(1, 9), st.integers(1, 4), st.integers(0, 5000))
def test_exposure_and_contrast_do_not_count(seed: int, parts: int, of: int, offset: int) -> None:
    """Thumbnails that lose nothing by the change of contrast: multiples of `of` become multiples of `parts`."""
    before = smooth(seed, 4) // (of * 12) * of
    after = (before.astype(np.int64) // of * parts + offset).astype(np.uint16)
    assert after.max() < 2**16 - 1
    for reference in (NOTHING, reference_of_textures()):
        assert not distances(hashes_of(before, reference), hashes_of(after, reference)).any()


@pytest.mark.parametrize(("gain", "offset"), [(0.7, 40), (0.5, 0), (1.1, -10), (0.9, 25.5)])
def test_re_exposed_pixels_differ_in_a_few_bits(picture: Any, gain: float, offset: float) -> None:
    pixels = [picture(seed) for seed in range(40)]
    changed = [gain * each + offset for each in pixels]
    assert all(each.min() >= 0 and each.max() <= 255 for each in changed), "none is clipped"
    before = np.stack([look_at(each).thumbnail for each in pixels])
    after = np.stack([look_at(np.rint(each).astype(np.uint8)).thumbnail for each in changed])
    reference = reference_of(before)
    found = distances(hashes_of(before, reference), hashes_of(after, reference))
    assert found.max() <= 10
    assert np.median(found) <= 4


def test_a_mirrored_hash_is_that_of_the_mirror_image(picture: Any, thumbnails: Any) -> None:
    reference = reference_of(thumbnails(range(70)))
    found = hashes_of(thumbnails(range(70)), reference, mirrored=True)
    assert np.array_equal(found, hashes_of(thumbnails(range(70))[:, :, ::-1].copy(), reference))
    turned = np.stack([look_at(picture(seed)[:, ::-1]).thumbnail for seed in range(70)])
    assert distances(found, hashes_of(turned, reference)).max() <= 2, "but for rounding of thumbnails"
    assert distances(found, hashes_of(thumbnails(range(70)), reference)).min() > 60


@given(SEEDS)
def test_hashes_of_different_pictures_differ_in_about_half_of_their_bits(seed: int) -> None:
    rows = smooth(seed, 20)
    apart = [distances(hashes_of(rows[:1], NOTHING), hashes_of(rows[n : n + 1], NOTHING))[0] for n in range(1, 20)]
    assert 90 < np.mean(apart) < 166


def test_what_a_set_has_in_common_is_taken_away(thumbnails: Any) -> None:
    common = thumbnails([1000]).astype(np.int64)
    own = thumbnails(range(100)).astype(np.int64) - 128 * 256
    parts = (common * 3 // 4 + own // 25 + 2560).astype(np.uint16)
    first, second = slice(None, 50), slice(50, None)
    plain, found = (hashes_of(parts, reference) for reference in (NOTHING, reference_of(parts)))
    assert np.median(distances(plain[first], plain[second])) < 30
    assert np.median(distances(found[first], found[second])) > 100


@settings(max_examples=examples(0.1))
@given(st.permutations(range(40)))
def test_a_reference_is_a_pure_function_of_thumbnails_in_any_order(order: list[int]) -> None:
    rows = smooth(7, 40)
    found, again = reference_of(rows), reference_of(rows.copy())
    assert found.digest == again.digest
    assert len(bytes.fromhex(found.digest)) == 16
    assert np.allclose(found.mean, reference_of(rows[order]).mean, atol=1e-12)


def test_digests_tell_references_apart(thumbnails: Any) -> None:
    rows = thumbnails(range(130))
    digests = [reference_of(rows[:count]).digest for count in (31, 32, 33, 63, 64, 128, 130)]
    assert len(set(digests)) == len(digests)
    assert digests[0] == NOTHING.digest == reference_of(rows[40:45]).digest, "small sets have nothing in common"
    other_modes = Reference(np.zeros(BITS), np.eye(1, BITS), 64)
    assert other_modes.digest != NOTHING.digest


def test_of_a_large_set_as_many_as_are_spread_over_it_make_the_reference(
    monkeypatch: pytest.MonkeyPatch, thumbnails: Any
) -> None:
    rows = thumbnails(range(120))
    monkeypatch.setattr(hashing, "_MOST_SAMPLED", 59)
    found = reference_of(rows)
    assert (found.images, found.digest) == (40, reference_of(rows[::3]).digest)
    monkeypatch.setattr(hashing, "_MOST_SAMPLED", 120)
    assert reference_of(rows).images == 120


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch, thumbnails: Any) -> None:
    rows = thumbnails(range(50))
    reference = reference_of(rows)
    expected = hashes_of(rows, reference)
    monkeypatch.setattr(hashing, "_BATCH", 7)
    assert np.array_equal(hashes_of(rows, reference), expected)
    assert hashes_of(rows[:0], reference).shape == (0, 4)


@given(st.integers(0, 255 * 256), st.integers(1, SIDE * SIDE))
def test_one_colour_shows_nothing(level: int, changed: int) -> None:
    one = np.full((1, SIDE, SIDE), level, np.uint16)
    assert shows_something(one).tolist() == [False]
    other = one.copy()
    other.reshape(-1)[:changed] = (level + 100 * 256) % (256 * 256)
    assert shows_something(other).tolist() == [changed < SIDE * SIDE]


def test_a_quarter_of_a_level_is_something() -> None:
    """A picture of two halves that differ by d levels has the standard deviation d / 2."""
    rows = np.full((3, SIDE, SIDE), 100 * 256, np.uint16)
    rows[0, :16] += 126
    rows[1, :16] += 128
    rows[2, :16] += 140
    assert shows_something(rows).tolist() == [False, True, True]


def test_what_shows_nothing_is_no_part_of_a_reference(thumbnails: Any) -> None:
    rows = thumbnails(range(70))
    blank = np.full((30, SIDE, SIDE), 9000, np.uint16)
    found = reference_of(np.concatenate([blank[:10], rows, blank[10:]]))
    assert (found.images, found.digest) == (70, reference_of(rows).digest)
    only_blank = reference_of(np.concatenate([blank, blank]))
    assert (only_blank.images, only_blank.digest) == (0, NOTHING.digest)
