"""Trivial properties that predict the class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_pipeline.inspection.cues import Cue, categorical_cue, name_features, numeric_cue

COUNTS = (30, 60, 120, 300, 600, 1000)


def labels_of(counts: tuple[int, ...]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), counts)


def keys_of(generator: np.random.Generator, images: int) -> NDArray[np.uint64]:
    return generator.integers(0, 2**64, images, dtype=np.uint64)


def assert_same(one: Cue, other: Cue) -> None:
    assert one.balanced_accuracy == pytest.approx(other.balanced_accuracy)
    assert one.interval == pytest.approx(other.interval)
    assert one.recalls == pytest.approx(other.recalls, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_a_class_photographed_in_other_light_is_found(seed: int) -> None:
    print(f"{seed=}")
    generator = np.random.default_rng(seed)
    labels = labels_of(COUNTS)
    brightness = generator.normal(100.0, 10.0, len(labels)) + 60.0 * (labels == 5) + 30.0 * (labels == 4)
    cue = numeric_cue("brightness", brightness, labels, 6, keys_of(generator, len(labels)))
    print(cue)
    assert cue.is_spurious
    assert cue.recalls[5] > 0.9
    assert cue.chance == pytest.approx(1 / 6)
    assert cue.interval[0] < cue.balanced_accuracy < cue.interval[1]


@pytest.mark.parametrize("given_away", range(6))
def test_one_class_of_six_that_is_given_away_is_enough(given_away: int) -> None:
    generator = np.random.default_rng(given_away)
    labels = labels_of(COUNTS)
    widths = np.where(labels == given_away, 800, 640)
    cue = numeric_cue("width", widths, labels, 6, keys_of(generator, len(labels)))
    assert cue.is_spurious
    assert cue.recalls[given_away] == 1.0
    assert cue.balanced_accuracy == pytest.approx(1 / 3)
    assert_same(cue, categorical_cue("width", list(map(str, widths)), labels, 6, keys_of(generator, len(labels))))


@pytest.mark.parametrize("counts", [COUNTS, (8, 8), (30, 30), (3, 3, 3), (2, 300), (10,) * 12])
def test_a_useless_cue_is_not_found_and_its_interval_holds_chance(counts: tuple[int, ...]) -> None:
    labels, cues = labels_of(counts), list[Cue]()
    for seed in range(60):
        generator = np.random.default_rng(seed)
        keys = keys_of(generator, len(labels))
        cues.append(numeric_cue("random", generator.normal(size=len(labels)), labels, len(counts), keys))
        tokens = [f"camera {number}" for number in generator.integers(0, 4, len(labels))]
        cues.append(categorical_cue("camera", tokens, labels, len(counts), keys))
    covered = [cue.interval[0] <= cue.chance <= cue.interval[1] for cue in cues]
    print(f"seeds 0..59: {np.mean(covered)=}, spurious {sum(cue.is_spurious for cue in cues)} of {len(cues)}")
    assert sum(cue.is_spurious for cue in cues) <= 0.03 * len(cues)
    assert np.mean(covered) >= 0.88


@pytest.mark.parametrize("counts", [(30, 30), COUNTS, (10,) * 12])
def test_a_perfect_cue_reaches_one_with_an_interval_that_has_a_width(counts: tuple[int, ...]) -> None:
    labels, generator = labels_of(counts), np.random.default_rng(0)
    cue = numeric_cue("size", labels * 10, labels, len(counts), keys_of(generator, len(labels)))
    assert cue.balanced_accuracy == 1.0
    assert cue.is_spurious
    assert 0.8 < cue.interval[0] < cue.interval[1] == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_what_is_only_remembered_through_copies_is_not_found(seed: int) -> None:
    print(f"{seed=}")
    generator = np.random.default_rng(seed)
    parts, copies = 90, 8
    groups = np.repeat(np.arange(parts), copies)
    labels = generator.integers(0, 3, parts)[groups]
    brightness = generator.normal(size=parts)[groups]
    names = [f"part{group}" for group in groups]
    keys = keys_of(generator, len(labels))
    assert categorical_cue("name", names, labels, 3, keys).balanced_accuracy == 1.0
    assert numeric_cue("brightness", brightness, labels, 3, keys).is_spurious
    assert categorical_cue("name", names, labels, 3, keys, groups).balanced_accuracy == pytest.approx(1 / 3)
    assert not numeric_cue("brightness", brightness, labels, 3, keys, groups).is_spurious


def test_copies_count_as_one_image() -> None:
    generator = np.random.default_rng(0)
    labels = labels_of((40, 40))
    values = generator.normal(size=80) + labels
    keys = keys_of(generator, 80)
    alone = numeric_cue("x", values, labels, 2, keys)
    times = np.repeat(np.arange(80), generator.integers(1, 9, 80))
    copied_keys = keys_of(generator, len(times))
    copied_keys[np.append(True, np.diff(times) > 0)] = 0  # the first of each group stands for it
    copied = numeric_cue("x", values[times], labels[times], 2, copied_keys, times)
    assert copied.interval[1] - copied.interval[0] == pytest.approx(alone.interval[1] - alone.interval[0], rel=0.15)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 90))
def test_neither_the_order_of_the_rows_nor_the_names_matter(seed: int, classes: int, images: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    values = np.where(generator.random(images) < 0.1, np.nan, np.round(generator.normal(size=images) + labels, 1))
    keys, groups = keys_of(generator, images), generator.integers(0, images, images)
    rows, renumbered = generator.permutation(images), generator.permutation(images)
    first = numeric_cue("x", values, labels, classes, keys, groups)
    moved = (values[rows], labels[rows], classes, keys[rows], renumbered[groups][rows])
    assert_same(first, numeric_cue("x", *moved))
    tokens = [f"{value}" for value in values]
    moved_tokens = categorical_cue("x", [tokens[row] for row in rows], *moved[1:])
    assert_same(categorical_cue("x", tokens, labels, classes, keys, groups), moved_tokens)
    again = numeric_cue("x", values, labels, classes, keys, groups)
    assert (first.balanced_accuracy, first.interval) == (again.balanced_accuracy, again.interval)
    assert 0.0 <= first.interval[0] <= first.balanced_accuracy + 1e-9
    assert first.balanced_accuracy - 1e-9 <= first.interval[1] <= 1.0


def test_missing_values_may_tell_the_class() -> None:
    generator = np.random.default_rng(0)
    labels = labels_of((50, 50))
    numbers = np.where(labels == 1, np.nan, generator.normal(size=100))
    assert numeric_cue("number", numbers, labels, 2, keys_of(generator, 100)).balanced_accuracy == 1.0
    nothing = numeric_cue("number", np.full(100, np.nan), labels, 2, keys_of(generator, 100))
    assert nothing.balanced_accuracy == 0.5


def test_infinite_values_are_the_largest() -> None:
    labels = labels_of((50, 50))
    values = np.where(labels == 1, np.inf, np.arange(100.0))
    assert numeric_cue("number", values, labels, 2, np.arange(100, dtype=np.uint64)).balanced_accuracy > 0.95


@pytest.mark.parametrize("counts", [(50, 50), COUNTS, (1, 1), (1, 40)])
def test_a_constant_is_chance_exactly(counts: tuple[int, ...]) -> None:
    labels = labels_of(counts)
    keys = keys_of(np.random.default_rng(0), len(labels))
    if min(counts) > 1:  # else a class lacks in some training and is not predicted there
        assert numeric_cue("width", np.full(len(labels), 640), labels, len(counts), keys).recalls == pytest.approx(
            [1 / len(counts)] * len(counts)
        )
    assert not categorical_cue("mode", ["RGB"] * len(labels), labels, len(counts), keys).is_spurious


def test_tokens_that_no_training_image_has_are_guessed() -> None:
    labels = labels_of((40, 80))
    cue = categorical_cue("name", [f"{row}" for row in range(120)], labels, 2, np.arange(120, dtype=np.uint64))
    assert cue.balanced_accuracy == pytest.approx(0.5)


def test_classes_without_images_do_not_count() -> None:
    labels = np.repeat([0, 2], 40)
    cue = numeric_cue("x", labels, labels, 4, np.arange(80, dtype=np.uint64))
    assert cue.chance == 0.5
    assert cue.balanced_accuracy == 1.0
    assert cue.recalls == pytest.approx((1.0, np.nan, 1.0, np.nan), nan_ok=True)


def test_one_class_is_never_given_away() -> None:
    cue = numeric_cue("x", np.arange(20), np.zeros(20, dtype=np.int64), 1, np.arange(20, dtype=np.uint64))
    assert cue.balanced_accuracy == cue.chance == 1.0
    assert not cue.is_spurious


def test_a_single_image_or_group_is_a_guess() -> None:
    one = np.zeros(1, dtype=np.int64)
    assert numeric_cue("x", np.ones(1), one, 2, np.ones(1, dtype=np.uint64)).chance == 1.0
    labels = labels_of((5, 5))
    cue = numeric_cue("x", labels, labels, 2, np.arange(10, dtype=np.uint64), np.zeros(10, dtype=np.int64))
    assert cue.balanced_accuracy == 0.5


@pytest.mark.parametrize(
    ("labels", "keys", "groups", "message"),
    [
        ([0, 1], [1, 2, 3], None, "cue 'x' has 3 values and 2 labels"),
        ([0, 1, 1], [1, 2], None, "cue 'x' has 3 values and 2 keys"),
        ([0, 1, 1], [1, 2, 3], [0], "cue 'x' has 3 values and 1 groups"),
        ([0, 1, 2], [1, 2, 3], None, "the label of row 2 is 2; with classes_count=2 it must lie from 0 to 1"),
        ([0, -1, 1], [1, 2, 3], None, "the label of row 1 is -1"),
    ],
)
def test_what_does_not_fit_is_refused(
    labels: list[int], keys: list[int], groups: list[int] | None, message: str
) -> None:
    grouped = None if groups is None else np.array(groups)
    with pytest.raises(ValueError, match=message):
        numeric_cue("x", np.ones(3), np.array(labels), 2, np.array(keys, dtype=np.uint64), grouped)


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="cue 'x' has no images"):
        categorical_cue("x", [], np.zeros(0, dtype=np.int64), 2, np.zeros(0, dtype=np.uint64))


def test_names_without_their_folders() -> None:
    ids = ["train/crack/cam2_0013.jpg", "crack/IMG-7.JPG", "Größe12b.x.png", "a/b/no", "c/.jpg", "d/12", "e/_x3_.bmp"]
    found = name_features(ids)
    assert found["pattern"] == ["cam#_####.jpg", "IMG-#.JPG", "Größe##b.x.png", "no", ".jpg", "##", "_x#_.bmp"]
    assert found["prefix"] == ["cam", "IMG", "Größe", "no", "", "", ""]
    assert found["extension"] == [".jpg", ".JPG", ".png", "", "", "", ".bmp"]
    assert np.array_equal(found["number"], [13, 7, 12, np.nan, np.nan, 12, 3], equal_nan=True)


def test_a_number_of_many_digits_is_no_error() -> None:
    assert name_features(["a/" + "9" * 400 + ".png"])["number"][0] == np.inf
