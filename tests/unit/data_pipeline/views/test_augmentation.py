from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.views.augmentation import Views, evaluation_views, training_views

SIDES = st.integers(1, 5000)
SIZES = st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=6).map(lambda sizes: np.array(sizes, dtype=np.int32))
SEEDS = st.integers(0, 2**64 - 1)
WINDOWS = st.sampled_from(["random_resized_crop", "whole", "letterbox"])
EVERYTHING = {
    "horizontal_flip": 0.5,
    "vertical_flip": 0.5,
    "quarter_turns": True,
    "brightness": 0.4,
    "contrast": 0.3,
    "saturation": 0.2,
    "erase": 0.5,
}
BOUNDS = st.tuples(st.floats(0.0, 1.0), st.floats(0.01, 1.0)).map(lambda pair: (min(pair), max(pair)))
RATIOS = st.tuples(st.floats(0.125, 8.0), st.floats(0.125, 8.0)).map(lambda pair: (min(pair), max(pair)))


def keys_of(count, first=0):
    return np.arange(first, first + count, dtype=np.uint64)


def same(one: Views, other: Views) -> bool:
    return all(np.array_equal(getattr(one, part.name), getattr(other, part.name)) for part in fields(Views))


def assert_drawable(views, sizes, size):
    """What every source relies on."""
    x, y, width, height = views.window.T
    assert (x >= 0).all()
    assert (y >= 0).all()
    assert (width >= 1).all()
    assert (height >= 1).all()
    assert (x + width <= sizes[:, 0]).all()
    assert (y + height <= sizes[:, 1]).all()
    assert (views.inner >= 1).all()
    assert (views.canvas == size).all()
    inside = (views.offset >= 0) & (views.offset + views.inner <= views.canvas)
    around = (views.offset <= 0) & (views.offset + views.inner >= views.canvas)
    assert (inside | around).all()
    left, top, wide, high = views.erase.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (left + wide <= size).all()
    assert (top + high <= size).all()
    assert ((wide > 0) == (high > 0)).all()
    assert np.isin(views.quarter_turns, range(4)).all()
    assert np.isin(views.flips, (0, 1)).all()
    for part in fields(Views):
        assert len(getattr(views, part.name)) == len(sizes)
        assert getattr(views, part.name).dtype == (np.float32 if part.name == "colour" else np.int32)


@given(SEEDS, st.integers(0, 10**6), SIZES, WINDOWS, BOUNDS, RATIOS, BOUNDS, RATIOS, st.integers(16, 512))
def test_views_are_within_their_images(seed, epoch, sizes, window, area, ratio, erase_area, erase_ratio, size):
    augmentation = AugmentationConfig(
        **(EVERYTHING | {"erase": 1.0}),
        window=window,
        crop_area=area,
        crop_ratio=ratio,
        erase_area=erase_area,
        erase_ratio=erase_ratio,
    )
    views = training_views(DataConfig(image_size=size), augmentation, seed, epoch, keys_of(len(sizes)), sizes)
    assert_drawable(views, sizes, size)
    assert (views.erase[:, 2] >= 1).all()
    for factor, strength in zip(views.colour.T, (0.4, 0.3, 0.2), strict=True):
        assert (np.abs(factor - 1.0) <= strength + 1e-6).all()


@given(SIZES, st.sampled_from(["whole", "letterbox", "center_crop"]), st.integers(16, 512), st.floats(0.1, 1.0))
def test_evaluation_views_are_within_their_images_and_plain(sizes, resize, size, fraction):
    views = evaluation_views(DataConfig(image_size=size, resize=resize, crop_fraction=fraction), sizes)
    assert_drawable(views, sizes, size)
    assert not views.quarter_turns.any()
    assert not views.flips.any()
    assert not views.erase.any()
    assert (views.colour == 1.0).all()
    assert (views.window == np.concatenate([np.zeros_like(sizes), sizes], axis=1)).all()
    if resize == "letterbox":
        assert (views.inner.max(axis=1) == size).all()
    if resize == "center_crop":
        assert (views.inner.min(axis=1) == max(int(size / fraction + 0.5), size)).all()
    if resize != "whole":
        scale = views.inner.max(axis=1) / sizes.max(axis=1)
        assert (np.abs(views.inner - np.maximum(sizes * scale[:, None], 1.0)) <= 0.51 + 0.5 * scale[:, None]).all()


@given(SEEDS, st.integers(0, 1000), SIZES, WINDOWS, st.randoms(use_true_random=False))
def test_permuting_the_rows_permutes_the_views(seed, epoch, sizes, window, random):
    data, augmentation = DataConfig(), AugmentationConfig(**EVERYTHING, window=window)
    keys = keys_of(len(sizes), first=77)
    rows = list(range(len(sizes)))
    random.shuffle(rows)
    views = training_views(data, augmentation, seed, epoch, keys, sizes)
    assert same(training_views(data, augmentation, seed, epoch, keys[rows], sizes[rows]), views.rows(np.array(rows)))
    alone = training_views(data, augmentation, seed, epoch, keys[:1], sizes[:1])
    assert same(alone, views.rows(slice(0, 1)))


OFF = {
    "horizontal_flip": 0.0,
    "vertical_flip": 0.0,
    "quarter_turns": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "erase": 0.0,
}


@pytest.mark.parametrize("name", OFF)
def test_switching_one_augmentation_leaves_the_others_alone(name):
    keys = keys_of(200)
    sizes = np.full((200, 2), 300, dtype=np.int32)
    on = training_views(DataConfig(), AugmentationConfig(**EVERYTHING), 5, 1, keys, sizes)
    off = training_views(DataConfig(), AugmentationConfig(**(EVERYTHING | {name: OFF[name]})), 5, 1, keys, sizes)
    changed = {
        part.name for part in fields(Views) if not np.array_equal(getattr(on, part.name), getattr(off, part.name))
    }
    column = {"horizontal_flip": 0, "vertical_flip": 1, "brightness": 0, "contrast": 1, "saturation": 2}
    part = {"horizontal_flip": "flips", "vertical_flip": "flips", "quarter_turns": "quarter_turns", "erase": "erase"}
    assert changed == {part.get(name, "colour")}
    if name in column:
        others = [place for place in range(getattr(on, part.get(name, "colour")).shape[1]) if place != column[name]]
        one, other = (getattr(views, part.get(name, "colour"))[:, others] for views in (on, off))
        assert np.array_equal(one, other)


def test_the_window_mode_leaves_the_rest_alone():
    keys, sizes = keys_of(100), np.full((100, 2), 300, dtype=np.int32)
    one, other = (
        training_views(DataConfig(), AugmentationConfig(**EVERYTHING, window=window), 5, 1, keys, sizes)
        for window in ("random_resized_crop", "letterbox")
    )
    for name in ("flips", "quarter_turns", "colour", "erase"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_seed_epoch_key_and_occurrence_each_change_the_view():
    data, augmentation = DataConfig(), AugmentationConfig(**EVERYTHING)
    sizes = np.full((50, 2), 300, dtype=np.int32)
    views = [
        training_views(data, augmentation, 1, 1, keys_of(50), sizes),
        training_views(data, augmentation, 2, 1, keys_of(50), sizes),
        training_views(data, augmentation, 1, 2, keys_of(50), sizes),
        training_views(data, augmentation, 1, 1, keys_of(50, first=50), sizes),
        training_views(data, augmentation, 1, 1, keys_of(50), sizes, occurrences=1),
    ]
    windows = np.concatenate([view.window for view in views])
    assert len(np.unique(windows, axis=0)) > 0.98 * len(windows)
    assert same(views[0], training_views(data, augmentation, 1, 1, keys_of(50), sizes))


def test_an_image_of_one_pixel_is_all_there_is_to_see():
    sizes = np.ones((20, 2), dtype=np.int32)
    views = training_views(DataConfig(), AugmentationConfig(**EVERYTHING), 0, 0, keys_of(20), sizes)
    assert (views.window == [0, 0, 1, 1]).all()
    assert_drawable(views, sizes, 224)


def test_a_panorama_is_seen_at_its_full_height_all_along_its_length():
    sizes = np.tile(np.array([[4000, 1000]], dtype=np.int32), (4000, 1))
    views = training_views(DataConfig(), AugmentationConfig(), 0, 0, keys_of(4000), sizes)
    x, _, width, height = views.window.T
    assert (height > 990).mean() > 0.4  # windows that would be higher are cut to the image
    centres = np.histogram(x + width / 2, bins=4, range=(0, 4000))[0] / 4000
    assert centres[1:3].sum() > 0.5
    assert centres.min() > 0.05


def test_windows_have_the_area_and_ratio_asked_for():
    count = 20_000
    sizes = np.full((count, 2), 1000, dtype=np.int32)
    augmentation = AugmentationConfig(crop_area=(0.2, 0.5), crop_ratio=(0.5, 2.0))
    views = training_views(DataConfig(), augmentation, 4, 0, keys_of(count), sizes)
    x, y, width, height = views.window.T.astype(float)
    area, ratio = width * height / 1e6, width / height
    assert 0.199 < area.min() < 0.205
    assert 0.495 < area.max() < 0.501
    assert abs(area.mean() - 0.35) < 4 * 0.3 / np.sqrt(12 * count) + 1e-3
    assert 0.498 < ratio.min() < 0.51
    assert 1.96 < ratio.max() < 2.01
    assert abs(np.log(ratio).mean()) < 4 * np.log(4) / np.sqrt(12 * count)
    assert_evenly_placed(x, y, width, height, 1000)


def test_erased_boxes_are_anywhere():
    sizes = np.full((20_000, 2), 100, dtype=np.int32)
    views = training_views(DataConfig(), AugmentationConfig(erase=1.0), 4, 0, keys_of(20_000), sizes)
    assert_evenly_placed(*views.erase.T.astype(float), 224)


def assert_evenly_placed(x, y, width, height, side):
    """Corners are uniform over where the box fits, across and down independently, and so is their mean."""
    free = (width < side) & (height < side)
    across, down = (x / (side - width + 1e-9))[free], (y / (side - height + 1e-9))[free]
    for place in (across, down):
        assert abs(place.mean() - 0.5) < 4 / np.sqrt(12 * len(place)) + 1 / side
        assert place.min() < 0.01
        assert place.max() > 0.99
    assert abs(np.corrcoef(across, down)[0, 1]) < 4 / np.sqrt(len(across))


@pytest.mark.parametrize("chance", [0.0, 0.25, 1.0])
def test_flips_turns_and_erasing_happen_as_often_as_asked_and_independently(chance):
    count = 10_000
    sizes = np.full((count, 2), 100, dtype=np.int32)
    augmentation = AugmentationConfig(horizontal_flip=chance, vertical_flip=chance, quarter_turns=True, erase=chance)
    views = training_views(DataConfig(), augmentation, 9, 0, keys_of(count), sizes)
    events = np.stack([views.flips[:, 0], views.flips[:, 1], views.erase[:, 2] > 0]).astype(float)
    tolerance = 4 * np.sqrt(chance * (1 - chance) / count)
    assert (np.abs(events.mean(axis=1) - chance) <= tolerance).all()
    turns = np.bincount(views.quarter_turns, minlength=4)
    assert np.abs(turns - count / 4).max() < 4 * np.sqrt(count * 3 / 16)
    if 0 < chance < 1:
        correlations = np.corrcoef(np.concatenate([events, [views.quarter_turns]]))
        assert np.abs(correlations - np.eye(4)).max() < 4 / np.sqrt(count)


def test_colour_factors_are_uniform_and_independent():
    count = 10_000
    sizes = np.full((count, 2), 100, dtype=np.int32)
    augmentation = AugmentationConfig(brightness=0.4, contrast=0.2, saturation=0.9)
    colour = training_views(DataConfig(), augmentation, 9, 0, keys_of(count), sizes).colour.astype(float)
    for factor, strength in zip(colour.T, (0.4, 0.2, 0.9), strict=True):
        quantiles = np.quantile((factor - 1) / strength, [0.1, 0.25, 0.5, 0.75, 0.9])
        assert np.abs(quantiles - [-0.8, -0.5, 0.0, 0.5, 0.8]).max() < 0.05
    assert np.abs(np.corrcoef(colour.T) - np.eye(3)).max() < 4 / np.sqrt(count)
    untouched = training_views(DataConfig(), AugmentationConfig(), 9, 0, keys_of(10), sizes[:10])
    assert (untouched.colour == 1.0).all()


# Inputs that are not square

INPUT = st.integers(16, 400)


@given(SEEDS, SIZES, WINDOWS, INPUT, INPUT)
def test_views_have_the_inputs_shape_and_lie_within(seed, sizes, window, height, width):
    data = DataConfig(image_size=height, image_width=width)
    augmentation = AugmentationConfig(window=window, erase=1.0)
    views = training_views(data, augmentation, seed, 0, keys_of(len(sizes)), sizes)
    assert (views.canvas == [width, height]).all()
    assert (views.erase[:, :2] >= 0).all()
    assert (views.erase[:, :2] + views.erase[:, 2:] <= [width, height]).all()
    assert (views.offset >= 0).all()
    assert (views.offset + views.inner <= [width, height]).all()
    if window == "letterbox":
        assert (views.inner == [width, height]).any(axis=1).all()
    else:
        assert (views.inner == [width, height]).all()


@given(SIZES, INPUT, INPUT, st.floats(0.1, 1.0))
def test_centre_crops_are_covered_by_their_image(sizes, height, width, fraction):
    data = DataConfig(image_size=height, image_width=width, resize="center_crop", crop_fraction=fraction)
    views = evaluation_views(data, sizes)
    target = [max(int(side / fraction + 0.5), side) for side in (width, height)]
    assert (views.canvas == [width, height]).all()
    assert (views.inner >= target).all()
    assert (views.inner == target).any(axis=1).all()
    assert (views.offset <= 0).all()
    assert (views.offset + views.inner >= [width, height]).all()


@given(SEEDS, SIZES, WINDOWS, st.sampled_from(["whole", "letterbox", "center_crop"]), INPUT)
def test_a_width_that_is_the_height_changes_nothing(seed, sizes, window, resize, side):
    plain, said = (
        DataConfig(image_size=side, resize=resize),
        DataConfig(image_size=side, image_width=side, resize=resize),
    )
    augmentation, keys = AugmentationConfig(**EVERYTHING, window=window), keys_of(len(sizes))
    assert same(
        training_views(plain, augmentation, seed, 1, keys, sizes),
        training_views(said, augmentation, seed, 1, keys, sizes),
    )
    assert same(evaluation_views(plain, sizes), evaluation_views(said, sizes))
