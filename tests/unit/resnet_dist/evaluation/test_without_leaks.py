"""What leaked samples are worth: against scikit-learn's metrics, and against intervals by formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from resnet_dist.evaluation.without_leaks import WithoutLeaks, without_leaks
from tests.laws import examples

CLASSES = 4
ROWS = st.lists(
    st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1), st.booleans()), min_size=5, max_size=40
)


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    return float(f1_score(labels, predictions, labels=np.unique(labels), average="macro", zero_division=0))


def judged(
    count: int, share: float, kept_right: float, leaked_right: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, predictions, leaked) of a model that is right more often where samples leaked."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    leaked = rng.random(count) < share
    right = rng.random(count) < np.where(leaked, leaked_right, kept_right)
    return labels, np.where(right, labels, (labels + rng.integers(1, CLASSES, count)) % CLASSES), leaked


@settings(max_examples=examples(0.7))
@given(ROWS, st.integers(0, 2**64))
def test_metrics_are_those_of_the_samples_without_copies(rows: list[tuple[int, int, bool]], seed: int) -> None:
    labels, predictions = (np.array([row[place] for row in rows], np.int64) for place in (0, 1))
    leaked = np.array([row[2] for row in rows], np.bool_)
    found = without_leaks(labels, predictions, leaked, CLASSES, seed, 100)
    if not leaked.any():
        assert found is None
        return
    assert found is not None
    assert (found.leaked, found.kept) == (leaked.sum(), (~leaked).sum())
    if leaked.all():
        assert (found.metrics, found.gains) == ({}, {})
        return
    own = labels[~leaked], predictions[~leaked]
    assert found.metrics == pytest.approx({"top1": accuracy_score(*own), "macro_f1": macro_f1(*own)})
    gains = {
        "top1": accuracy_score(labels, predictions) - accuracy_score(*own),
        "macro_f1": macro_f1(labels, predictions) - macro_f1(*own),
    }
    assert {name: gain for name, (gain, _, _) in found.gains.items()} == pytest.approx(gains)
    for _, low, high in found.gains.values():
        assert -1.0 <= low <= high <= 1.0


def test_where_nothing_leaks_there_is_nothing_to_tell_and_where_everything_leaks_nothing_is_left() -> None:
    labels = np.arange(20) % CLASSES
    assert without_leaks(labels, labels, np.zeros(20, np.bool_), CLASSES, 0, 100) is None
    every = np.ones(20, np.bool_)
    assert without_leaks(labels, labels, every, CLASSES, 0, 100) == WithoutLeaks(20, 0, {}, {})


@pytest.mark.parametrize("seed", range(8))
def test_the_interval_holds_the_gain_on_ordinary_data(seed: int) -> None:
    found = without_leaks(*judged(300, 0.2, 0.8, 0.95, seed), CLASSES, seed, 200)
    assert found is not None
    for gain, low, high in found.gains.values():
        assert low < gain < high


def test_copies_that_are_always_right_make_results_better_and_wrong_ones_worse() -> None:
    for leaked_right, sign in ((1.0, 1), (0.0, -1)):
        found = without_leaks(*judged(400, 0.3, 0.6, leaked_right, 0), CLASSES, 0, 200)
        assert found is not None
        for bounds in found.gains.values():
            assert all(sign * value > 0 for value in bounds)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_interval_of_top1_has_the_width_of_a_paired_difference(share: float) -> None:
    """The gain is the leaked share times the difference of two independent shares of right answers."""
    labels, predictions, leaked = judged(1000, share, 0.7, 0.9, 1)
    found = without_leaks(labels, predictions, leaked, CLASSES, 3, 1000)
    assert found is not None
    right = labels == predictions
    of_leaked, of_kept, part = right[leaked].mean(), right[~leaked].mean(), leaked.mean()
    variance = part**2 * sum(
        each * (1 - each) / count for each, count in ((of_leaked, leaked.sum()), (of_kept, (~leaked).sum()))
    )
    variance += (of_leaked - of_kept) ** 2 * part * (1 - part) / 1000
    gain, low, high = found.gains["top1"]
    assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.12)
    assert gain == pytest.approx(part * (of_leaked - of_kept))


def test_macro_f1_is_resampled_within_classes() -> None:
    """All samples of a class are alike, so every such resample has the same counts."""
    labels = np.repeat([0, 1], [50, 3])
    found = without_leaks(labels, np.zeros(53, np.int64), labels == 1, 2, 0, 100)
    assert found is not None
    gain = 50 / (50 + 53) - 1.0
    assert found.gains["macro_f1"] == pytest.approx((gain, gain, gain))
    _, low, high = found.gains["top1"]
    assert low < high, "from all samples"


def test_it_is_pure_in_the_seed() -> None:
    data = judged(200, 0.2, 0.8, 0.95, 0)
    found = [without_leaks(*data, CLASSES, seed, 100) for seed in (5, 5, 6)]
    assert found[0] == found[1]
    assert found[0] is not None
    assert found[2] is not None
    assert found[0].gains != found[2].gains
    assert found[0].metrics == found[2].metrics


def test_plain_values() -> None:
    found = without_leaks(*judged(50, 0.2, 0.8, 0.95, 0), CLASSES, 0, 20)
    assert isinstance(found, WithoutLeaks)
    values = found.to_json()
    assert values == {
        "leaked": found.leaked,
        "kept": found.kept,
        "metrics": found.metrics,
        "gains": found.gains,
    }
    assert {type(value) for value in (values["leaked"], *values["metrics"].values())} == {int, float}
