"""One look at pixels, against plain sums, exact means of areas and the Laplacian's definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_pipeline.inspection import thumbnails
from data_pipeline.inspection.thumbnails import SIDE, look_at
from tests.laws import examples

GREY = np.array([0.299, 0.587, 0.114])
ROUNDING = 0.5 / 256 + 1e-9
SEEDS = st.integers(0, 2**32 - 1)


def noise(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def area_means(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[SIDE, SIDE] grey: differences of the integral along each side, which is straight within a pixel."""
    grey = pixels @ GREY
    for axis in (0, 1):
        length = grey.shape[axis]
        edges = np.linspace(0, length, SIDE + 1)

        def means(line, length=length, edges=edges):
            return np.diff(np.interp(edges, np.arange(length + 1), np.append(0.0, np.cumsum(line)))) * SIDE / length

        grey = np.apply_along_axis(means, axis, grey)
    return grey


@given(st.integers(1, 127), st.integers(1, 300), st.booleans(), SEEDS)
def test_a_thumbnail_is_the_exact_mean_of_what_each_of_its_pixels_covers(
    shorter: int, longer: int, upright: bool, seed: int
) -> None:
    size = (longer, shorter) if upright else (shorter, longer)
    pixels = noise(*size, seed)
    found = look_at(pixels).thumbnail
    assert (found.dtype, found.shape) == (np.uint16, (SIDE, SIDE))
    assert np.abs(found / 256 - area_means(pixels)).max() <= ROUNDING


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 33), (2, 31), (127, 1), (1, 5000), (3, 4096), (7000, 2)])
def test_one_pixel_and_images_far_wider_than_high(size: tuple[int, int]) -> None:
    pixels = noise(*size, 0)
    assert np.abs(look_at(pixels).thumbnail / 256 - area_means(pixels)).max() <= ROUNDING


@settings(max_examples=examples(0.5))
@given(st.integers(2, 5), st.integers(2, 6), st.booleans(), SEEDS)
def test_it_is_exact_where_blocks_do_not_lie_across_its_pixels(
    times: int, others: int, upright: bool, seed: int
) -> None:
    """Blocks have `times` pixels a side, for the shorter side has 64 of them."""
    shorter, longer = 64 * times, 32 * times * others
    pixels = noise(*((longer, shorter) if upright else (shorter, longer)), seed)
    assert np.abs(look_at(pixels).thumbnail / 256 - area_means(pixels)).max() <= ROUNDING


@settings(max_examples=examples(0.5))
@given(st.integers(128, 300), st.integers(128, 400), st.booleans(), SEEDS)
def test_of_any_size_the_mean_is_kept_and_no_area_is_far_off(height: int, width: int, upright: bool, seed: int) -> None:
    pixels = noise(*((height, width) if upright else (width, height)), seed)
    found = look_at(pixels).thumbnail / 256
    assert found.mean() == pytest.approx((pixels @ GREY).mean(), abs=ROUNDING)
    ramp = np.add.outer(np.linspace(0, 100, height), np.linspace(0, 150, width)).astype(np.uint8)[:, :, None]
    smooth = np.repeat(ramp, 3, axis=2)
    assert np.abs(look_at(smooth).thumbnail / 256 - area_means(smooth)).max() < 1.5


@given(st.integers(1, 400), st.integers(1, 400), SEEDS)
def test_sums_are_exact(height: int, width: int, seed: int) -> None:
    pixels = noise(height, width, seed)
    assert look_at(pixels).sums == tuple(pixels.astype(np.uint64).sum(axis=(0, 1)).tolist())


@pytest.mark.parametrize("size", [(1, 1), (700, 700), (129, 20_000), (1031, 1033)])
def test_sums_of_white_do_not_overflow(size: tuple[int, int]) -> None:
    white = np.full((*size, 3), 255, np.uint8)
    look = look_at(white)
    assert look.sums == (255 * size[0] * size[1],) * 3
    assert (look.thumbnail == 255 * 256).all()


def test_the_largest_blocks_of_white_do_not_overflow() -> None:
    """They are those of images of 16,384 pixels a side, which weigh 800 MB."""
    blocks = thumbnails._blocks(np.full((600, 520, 3), 255, np.uint8), thumbnails._MOST_SIDE)
    sides = np.array([256, 256, 88]), np.array([256, 256, 8])
    assert np.array_equal(blocks, np.repeat(255 * np.multiply.outer(*sides)[:, :, None], 3, axis=2))


def test_the_channels_weigh_as_pillows() -> None:
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        pixels = np.zeros((40, 50, 3), np.uint8)
        pixels[:, :, channel] = 200
        assert np.abs(look_at(pixels).thumbnail / 256 - 200 * weight).max() <= ROUNDING


def test_pixels_may_lie_in_memory_in_any_order() -> None:
    pixels = noise(90, 140, 0)
    turned = pixels[::-1, ::-1]
    look, expected = look_at(turned), look_at(turned.copy())
    assert np.array_equal(look.thumbnail, expected.thumbnail)
    assert (look.sums, look.sharpness) == (expected.sums, expected.sharpness)
    assert np.array_equal(look.thumbnail, look_at(pixels).thumbnail[::-1, ::-1])


@given(st.integers(3, thumbnails._SAMPLED_ROWS + 2), st.integers(3, 60), SEEDS)
def test_the_sharpness_of_a_low_image_is_the_variance_of_its_laplacian(height: int, width: int, seed: int) -> None:
    pixels = noise(height, width, seed)
    green = pixels[:, :, 1].astype(int).tolist()
    laplacian = [
        green[y - 1][x] + green[y + 1][x] + green[y][x - 1] + green[y][x + 1] - 4 * green[y][x]
        for y in range(1, height - 1)
        for x in range(1, width - 1)
    ]
    mean = sum(laplacian) / len(laplacian)
    expected = sum((value - mean) ** 2 for value in laplacian) / len(laplacian)
    assert look_at(pixels).sharpness == pytest.approx(expected)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (2, 50), (50, 2)])
def test_fewer_than_three_rows_or_columns_have_no_sharpness(size: tuple[int, int]) -> None:
    assert look_at(noise(*size, 0)).sharpness == 0.0


@given(st.integers(3, 200), st.integers(3, 200), st.integers(0, 255))
def test_one_colour_has_no_sharpness(height: int, width: int, level: int) -> None:
    assert look_at(np.full((height, width, 3), level, np.uint8)).sharpness == 0.0


@given(st.integers(20, 150), st.integers(20, 150), SEEDS)
def test_sharpness_grows_with_the_strength_of_noise(height: int, width: int, seed: int) -> None:
    pattern = np.random.default_rng(seed).integers(-1, 2, (height, width, 1))
    found = [
        look_at((128 + strength * pattern).repeat(3, axis=2).astype(np.uint8)).sharpness for strength in (1, 5, 40)
    ]
    assert found == pytest.approx([found[0], 25 * found[0], 1600 * found[0]])
    assert found[0] > 0


@pytest.mark.parametrize("rows", [slice(0, 20), slice(150, 170), slice(380, 400)])
def test_all_parts_of_a_high_image_are_looked_at_for_sharpness(rows: slice) -> None:
    pixels = np.full((400, 60, 3), 128, np.uint8)
    pixels[rows] = noise(20, 60, 0)
    assert look_at(pixels).sharpness > 100
