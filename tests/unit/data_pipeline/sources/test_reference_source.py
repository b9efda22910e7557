import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipeline.config import DataConfig
from data_pipeline.sources.build import evaluation_source
from data_pipeline.sources.reference_source import apply_view
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.views.augmentation import Views, evaluation_views
from resnet_dist.runtime.preprocess import Preprocess

LEVELS = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}


def view(size, **changes):
    """Of a square image, unchanged but for `changes`."""
    plain = {
        "window": [0, 0, size, size],
        "inner": [size, size],
        "offset": [0, 0],
        "canvas": [size, size],
        "quarter_turns": 0,
        "flips": [0, 0],
        "colour": [1.0, 1.0, 1.0],
        "erase": [0, 0, 0, 0],
    }
    columns = {name: np.array([value]) for name, value in (plain | changes).items()}
    return Views(**{name: c.astype(np.float32 if name == "colour" else np.int32) for name, c in columns.items()})


def levels(image, views, size, **config):
    """The view in 0..255."""
    shown = apply_view(image, views, 0, DataConfig(image_size=size, **(LEVELS | config)))
    assert shown.dtype == np.float32
    return shown


@pytest.fixture(scope="module")
def image(image_files):
    return image_files.photo(16, 16)


def test_a_view_that_changes_nothing_is_the_image(image):
    np.testing.assert_allclose(levels(image, view(16), 16), image, atol=1e-4)


def test_the_window_is_cut_out_before_it_is_resized(image):
    cut = image[3:9, 2:12]
    shown = levels(image, view(16, window=[2, 3, 10, 6]), 16)
    np.testing.assert_allclose(shown, Image.fromarray(cut).resize((16, 16), Image.Resampling.BILINEAR), atol=1e-4)
    changed_outside = image.copy()
    changed_outside[:3], changed_outside[:, 12:] = 0, 255
    np.testing.assert_array_equal(levels(changed_outside, view(16, window=[2, 3, 10, 6]), 16), shown)


def test_padding_has_its_colour_and_a_negative_offset_crops(image):
    shown = levels(image, view(16, window=[0, 0, 16, 8], inner=[16, 8], offset=[0, 4]), 16, pad_colour=(9, 8, 7))
    np.testing.assert_allclose(shown[4:12], image[:8], atol=1e-4)
    np.testing.assert_allclose(shown[[0, 3, 12, 15], 5], [[9, 8, 7]] * 4, atol=1e-4)
    larger = np.tile(image, (2, 2, 1))
    cropped = levels(larger, view(32, offset=[-2, -3], canvas=[16, 16]), 16)
    np.testing.assert_allclose(cropped, larger[3:19, 2:18], atol=1e-4)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("flips", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_turns_are_counter_clockwise_and_come_before_flips(image, turns, flips):
    expected = np.rot90(image, turns)
    expected = expected[:, ::-1] if flips[0] else expected
    expected = expected[::-1] if flips[1] else expected
    np.testing.assert_allclose(levels(image, view(16, quarter_turns=turns, flips=flips), 16), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("colour", "pixel", "expected"),
    [
        ((0.5, 1.0, 1.0), (200, 100, 50), (100, 50, 25)),
        ((2.0, 1.0, 1.0), (200, 100, 50), (255, 200, 100)),
        ((1.0, 0.5, 1.0), (200, 100, 128), (164, 114, 128)),
        ((1.0, 1.0, 0.0), (200, 100, 50), (124, 124, 124)),  # luma 124.2
        ((1.1, 0.5, 0.5), (200, 100, 50), (160, 132, 118)),  # (162.1, 112.1, 87.1), then (145.05, 120.05, 107.55)
    ],
)
def test_colour_factors(colour, pixel, expected):
    image = np.full((16, 16, 3), pixel, dtype=np.uint8)
    np.testing.assert_allclose(levels(image, view(16, colour=colour), 16)[0, 0], expected, atol=1e-3)


def test_the_erased_box_is_zero_after_normalisation(image):
    shown = apply_view(image, view(16, erase=[3, 5, 4, 2]), 0, DataConfig(image_size=16))
    assert not shown[5:7, 3:7].any()
    shown[5:7, 3:7] = 1.0
    assert (shown != 0).any(axis=2).all()


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.sampled_from(["whole", "letterbox", "center_crop"]),
    st.integers(16, 48),
    st.none() | st.integers(16, 48),
    st.floats(0.5, 1.0),
)
def test_evaluation_views_are_the_runtimes_preprocessing(size, resize, image_size, image_width, fraction):
    data = DataConfig(image_size=image_size, image_width=image_width, resize=resize, crop_fraction=fraction)
    image = np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    contract = Preprocess(
        mode=resize,
        size=image_size if image_width is None else (image_size, image_width),
        crop_fraction=fraction,
        pad_colour=data.pad_colour,
        mean=data.mean,
        std=data.std,
        bit_depth=None,
        max_pixels=10**7,
    )
    views = evaluation_views(data, np.array([size], dtype=np.int32))
    np.testing.assert_allclose(
        apply_view(image, views, 0, data), contract.normalise(contract.apply(image)[None])[0], atol=1e-5
    )


def test_the_source_gives_each_images_view(small_photos, decode):
    data = DataConfig(image_size=32, source="reference")
    views = evaluation_views(data, small_photos.sizes)
    with evaluation_source(SourceSpec(data, decode), small_photos, 8, RankShare()) as source:
        batches = list(source.batches())
    assert [len(batch.rows) for batch in batches] == [8, 8, 5]
    for batch in batches:
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_array_equal(batch.labels, small_photos.labels[batch.rows])
        for position, row in enumerate(batch.rows):
            file = Path(os.fsdecode(small_photos.path(row)))
            expected = apply_view(decode(file.read_bytes()), views, row, data)
            np.testing.assert_array_equal(batch.images[position].permute(1, 2, 0), expected)
