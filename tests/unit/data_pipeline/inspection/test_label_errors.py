"""Labels that are probably wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_pipeline.inspection.label_errors import find_label_errors

SEEDS = st.integers(0, 2**32 - 1)


def predictions(
    generator: np.random.Generator, truth: NDArray[np.int64], classes: int, skill: float = 3.0
) -> NDArray[np.float64]:
    """Softmax of noise, the true class raised by `skill`: float [N, classes]."""
    logits = generator.normal(size=(len(truth), classes))
    logits[np.arange(len(truth)), truth] += skill
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_a_small_example_of_the_paper_by_hand() -> None:
    rows = [(0.8, 0.1, 0.1), (0.6, 0.3, 0.1), (0.1, 0.8, 0.1), (0.2, 0.7, 0.1), (0.1, 0.8, 0.1), (0.3, 0.3, 0.4)]
    rows += [(0.1, 0.1, 0.8), (0.2, 0.2, 0.6)]
    found = find_label_errors(np.array(rows), np.array([0, 0, 0, 1, 1, 1, 2, 2]))
    # Means of (0.8, 0.6, 0.1), (0.7, 0.8, 0.3) and (0.8, 0.6). Rows 5 and 7 reach no threshold, so row 2 alone counts
    # off the diagonal: [[2, 1, 0], [0, 2, 0], [0, 0, 1]], and rows are scaled to 3, 3 and 2 images.
    assert found.thresholds == pytest.approx([0.5, 0.6, 0.7])
    assert found.joint == pytest.approx(np.array([[2, 1, 0], [0, 3, 0], [0, 0, 2]]))
    assert found.share == pytest.approx(1 / 8)
    assert found.pair_shares[0] == pytest.approx([2 / 8, 1 / 8, 0])
    assert found.order.tolist() == [2, 5, 1, 7, 3, 0, 4, 6]
    assert np.flatnonzero(found.likely).tolist() == [2]
    assert found.suggested[[1, 2, 3, 5]].tolist() == [1, 1, 0, 2]
    assert found.score[[1, 2, 5]] == pytest.approx([0.3 / 0.9, 0.8 / 0.9, 0.4 / 0.7])


@given(SEEDS, st.integers(1, 7), st.integers(1, 120))
def test_every_image_is_ranked_once_and_the_joint_counts_them_all(seed: int, classes: int, images: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    given_probabilities = predictions(generator, generator.integers(0, classes, images), classes)
    found = find_label_errors(given_probabilities, labels)
    assert sorted(found.order.tolist()) == list(range(images))
    assert np.all(np.diff(found.score[found.order]) <= 0)
    assert found.score.min() >= 0
    assert found.score.max() <= 1
    assert found.joint.sum(axis=1) == pytest.approx(np.bincount(labels, minlength=classes))
    assert 0 <= found.share < 1
    assert found.likely[found.order].tolist() == sorted(found.likely.tolist(), reverse=True)
    assert np.all(found.suggested[found.likely] == given_probabilities.argmax(axis=1)[found.likely])
    if classes > 1:
        assert np.all(found.suggested != labels)


@given(SEEDS, st.integers(2, 6), st.integers(2, 80))
def test_neither_the_order_of_the_rows_nor_that_of_the_classes_matters(seed: int, classes: int, images: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, images)
    probabilities = predictions(generator, labels, classes, skill=1.0)
    rows, places = generator.permutation(images), generator.permutation(classes)
    found = find_label_errors(probabilities, labels)
    moved = find_label_errors(probabilities[rows], labels[rows])
    renamed = find_label_errors(probabilities[:, places], np.argsort(places)[labels])
    assert np.array_equal(rows[moved.order], found.order)
    assert np.array_equal(renamed.order, found.order)
    assert np.array_equal(moved.likely, found.likely[rows])
    assert np.array_equal(renamed.likely, found.likely)
    assert np.array_equal(places[renamed.suggested], found.suggested)
    assert moved.joint == pytest.approx(found.joint)
    assert renamed.joint == pytest.approx(found.joint[np.ix_(places, places)])


def test_equal_images_stay_in_the_order_of_the_rows() -> None:
    found = find_label_errors(np.tile([0.7, 0.2, 0.1], (50, 1)), np.full(50, 0))
    assert found.order.tolist() == list(range(50))
    assert not found.likely.any()


def test_scores_that_round_to_one_are_told_apart() -> None:
    tiny = np.array([1e-20, 1e-30, 1e-40], dtype=np.float32)
    found = find_label_errors(np.stack([tiny, 1 - tiny], axis=1), np.zeros(3, dtype=np.int64))
    assert found.score.tolist() == [1, 1, 1]
    assert found.order.tolist() == [2, 1, 0]


@pytest.mark.parametrize("counts", [(400,) * 5, (30, 60, 120, 300, 600, 1000)])
@pytest.mark.parametrize("seed", range(3))
def test_planted_errors_come_first(seed: int, counts: tuple[int, ...]) -> None:
    print(f"{seed=}")
    generator, classes = np.random.default_rng(seed), len(counts)
    truth = np.repeat(np.arange(classes), counts)
    flipped = generator.random(len(truth)) < 0.05
    labels = np.where(flipped, (truth + generator.integers(1, classes, len(truth))) % classes, truth)
    found = find_label_errors(predictions(generator, truth, classes, skill=6.0), labels)
    first = found.order[: len(truth) // 10]
    assert flipped[first].sum() >= 0.97 * flipped.sum()
    assert flipped[found.likely].mean() >= 0.75
    # Of a model that is sure of itself, some of the wrong ones do not reach the mean probability of their true class.
    assert found.likely[flipped].mean() >= 0.75
    assert found.share == pytest.approx(flipped.mean(), abs=0.03)
    right = found.suggested[flipped & found.likely] == truth[flipped & found.likely]
    assert right.mean() >= 0.95


def test_an_error_between_two_classes_is_in_their_cell() -> None:
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 300)
    labels = truth.copy()
    labels[600:660] = 1
    found = find_label_errors(predictions(generator, truth, 4, skill=6.0), labels)
    off = found.joint - np.diag(np.diagonal(found.joint))
    assert np.unravel_index(off.argmax(), off.shape) == (1, 2)
    assert off[1, 2] == pytest.approx(60, rel=0.4)


def test_a_class_that_the_model_never_finds_draws_no_others_into_its_column() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (500, 500, 2))
    probabilities = predictions(generator, labels, 3, skill=2.0)
    probabilities[:, 2] = generator.uniform(0.0, 0.01, len(labels))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert find_label_errors(probabilities, labels).joint[:2, 2].sum() == 0


@pytest.mark.parametrize("count", [0, 1])
def test_a_class_of_few_images_or_none(count: int) -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (50, 50, count))
    found = find_label_errors(predictions(generator, labels, 3, skill=4.0), labels)
    assert np.isinf(found.thresholds[2]) == (count == 0)
    assert found.joint[2].sum() == count
    assert np.all(np.isfinite(found.joint))
    assert found.share < 0.1


def test_one_class_has_no_errors() -> None:
    found = find_label_errors(np.full((4, 1), 0.9995), np.zeros(4, dtype=np.int64))
    assert found.score.tolist() == [0] * 4
    assert found.suggested.tolist() == [0] * 4
    assert not found.likely.any()
    assert found.share == 0


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([[0.5, 0.4]], [0], r"row 0 are \[0.5, 0.4\], their sum is 0.9; .* apply softmax"),
        ([[0.5, 0.5], [1.5, -0.5]], [0, 0], r"row 1 are \[1.5, -0.5\], their sum is 1; each must be 0 or more"),
        ([[np.nan, 1.0]], [0], r"row 0 are \[nan, 1\]; all must be finite"),
        ([[np.inf, 1.0]], [0], r"row 0 are \[inf, 1\]; all must be finite"),
        ([[0.5, 0.5]], [2], "the label of row 0 is 2; with 2 columns of probabilities it must lie from 0 to 1"),
        ([[0.5, 0.5]], [-1], "the label of row 0 is -1"),
        ([[0.5, 0.5]], [0, 1], r"labels are int64 \[2\]; they must be int64 \[1\]"),
        ([[0.5, 0.5]], [0.0], r"labels are float64 \[1\]"),
        ([0.5, 0.5], [0], r"probabilities are float64 \[2\]; they must be float \[N, C\]"),
        ([[1, 0]], [0], r"probabilities are int64 \[1, 2\]"),
        (np.zeros((0, 3)), np.zeros(0, dtype=np.int64), r"probabilities are float64 \[0, 3\]"),
    ],
)
def test_what_cannot_be_right_is_refused(probabilities: list[list[float]], labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_label_errors(np.array(probabilities), np.array(labels))


def test_single_precision_that_sums_to_one_nearly_is_taken_and_nothing_is_changed() -> None:
    probabilities = np.array([[0.6, 0.3995], [0.2, 0.8005]], dtype=np.float32)
    labels = np.array([0, 1])
    probabilities.flags.writeable = labels.flags.writeable = False
    assert find_label_errors(probabilities, labels).order.tolist() == [0, 1]
