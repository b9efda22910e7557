"""Bootstrap intervals: against a plain loop, against theory, and in their limits."""

from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnet_dist.evaluation import bootstrap
from resnet_dist.evaluation.bootstrap import intervals, rows_by_class, rows_of_all
from resnet_dist.evaluation.metrics import METRICS, confusion_matrix, confusion_metrics, in_top, log_losses, macro
from tests.laws import examples

Judged = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]


def judged(samples: int, classes: int, seed: int, skill: float = 1.0) -> Judged:
    """Labels, predictions, top 5 and losses of a model that is right now and then."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, samples)
    logits = generator.normal(size=(samples, classes)).astype(np.float32)
    logits[np.arange(samples), labels] += skill
    return labels, logits.argmax(axis=1), in_top(logits, labels, 5), log_losses(logits, labels)


@given(samples=st.integers(1, 30), classes=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=examples(0.25))
def test_equals_resampling_one_by_one(samples: int, classes: int, seed: int) -> None:
    labels, predictions, top5, losses = judged(samples, classes, seed)
    generator, by_class = np.random.Generator(np.random.Philox(seed)).spawn(2)
    values: dict[str, list[float]] = {name: [] for name in (*METRICS, "top5")}
    for own, rows in zip(rows_by_class(labels, by_class, 100), rows_of_all(samples, generator, 100), strict=True):
        one = confusion_metrics(confusion_matrix(labels[own], predictions[own], classes))
        one |= {"top1": float((labels == predictions)[rows].mean())}
        one |= {"top5": float(top5[rows].mean()), "log_loss": float(losses[rows].mean())}
        for name, value in one.items():
            values[name].append(value)
    found = intervals(labels, predictions, top5, losses, classes, seed, 100)
    assert found.keys() == {*METRICS, "top5"}
    assert intervals(labels, predictions, None, losses, classes, seed, 100).keys() == set(METRICS)
    for name, bounds in found.items():
        assert bounds == pytest.approx(tuple(np.percentile(values[name], [2.5, 97.5])), rel=1e-12), name


def test_a_class_is_resampled_from_its_own_samples() -> None:
    labels = np.array([2, 0, 2, 2, 0, 1])
    rows = rows_by_class(labels, np.random.default_rng(0), 3000)
    assert (labels[rows] == np.sort(labels)).all()
    shares = np.bincount(rows.ravel(), minlength=6) / 3000
    assert shares == pytest.approx([1.0] * 6, abs=0.1)  # each sample is drawn once on average
    assert len(np.unique(rows[:, 3:])) == 3


@st.composite
def rare_classes(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Labels of which some classes have one sample or none, and predictions that never find some of them."""
    counts = draw(st.lists(st.sampled_from([0, 1, 2, 3, 40]), min_size=2, max_size=8).filter(any))
    labels = np.repeat(np.arange(len(counts)), counts)
    never = np.array(draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts))))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    predictions = np.where(generator.random(len(labels)) < 0.7, labels, generator.integers(0, len(counts), len(labels)))
    missed = never[predictions] & (predictions == labels)
    return labels, np.where(missed, (predictions + 1) % len(counts), predictions), len(counts)


@given(rare_classes(), st.integers(0, 2**32 - 1))
@settings(max_examples=examples(1.0))
def test_bounds_lie_within_what_the_labels_allow(
    made: tuple[NDArray[np.int64], NDArray[np.int64], int], seed: int
) -> None:
    labels, predictions, classes = made
    confusion = confusion_matrix(labels, predictions, classes)
    support, right = confusion.sum(axis=1), np.diagonal(confusion)
    found = intervals(labels, predictions, None, np.zeros(len(labels)), classes, seed, 100)
    # Of a class that is never found no resample finds one, and of one that is always found every resample finds all.
    least, most = (right == support) * 1.0, (right > 0) * 1.0
    slack = 1e-12
    for name, low, high in (
        ("balanced_accuracy", macro(least, support), macro(most, support)),
        ("macro_f1", 0.0, macro(most, support)),
    ):
        assert low - slack <= found[name][0] <= found[name][1] <= high + slack, name


def test_a_lost_rare_class_does_not_raise_macro_f1() -> None:
    # Nothing but good is ever answered, so macro-F1 is a quarter of good's F1, in every resample.
    labels = np.repeat([0, 1, 2, 3], [60, 3, 1, 1])
    found = intervals(labels, np.zeros_like(labels), None, np.zeros(65), 4, 0, 1000)
    assert found["macro_f1"] == pytest.approx((2 * 60 / (60 + 65) / 4,) * 2, rel=1e-12)
    assert found["balanced_accuracy"] == (0.25, 0.25)
    # An average over images still says how few there are.
    assert found["top1"][0] < 60 / 65 < found["top1"][1]


def test_pure_and_independent_of_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    made = judged(400, 6, seed=1)
    first = intervals(*made, 6, 3, 500)
    assert intervals(*made, 6, 3, 500) == first
    assert intervals(*made, 6, 4, 500) != first
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 7 * 400)
    assert intervals(*made, 6, 3, 500) == first


def test_width_is_the_binomials() -> None:
    labels, predictions, top5, losses = judged(2000, 4, seed=2)
    share = float((labels == predictions).mean())
    low, high = intervals(labels, predictions, top5, losses, 4, 0, 4000)["top1"]
    half = 1.96 * (share * (1 - share) / 2000) ** 0.5
    assert low == pytest.approx(share - half, abs=0.15 * half)
    assert high == pytest.approx(share + half, abs=0.15 * half)


def test_a_95_percent_interval_covers_the_truth_about_95_times_in_100() -> None:
    truth, covered, trials = 0.7, 0, 300
    for trial in range(trials):
        labels = np.zeros(200, dtype=np.int64)
        predictions = (np.random.default_rng(trial).random(200) >= truth).astype(np.int64)
        low, high = intervals(labels, predictions, labels == 0, np.zeros(200), 2, trial, 200)["top1"]
        covered += low <= truth <= high
    assert 0.90 < covered / trials < 0.985


@pytest.mark.parametrize("samples", [1, 2, 50])
def test_a_perfect_model_has_no_width(samples: int) -> None:
    labels = np.arange(samples, dtype=np.int64) % 3
    found = intervals(labels, labels, labels >= 0, np.zeros(samples), 3, 0, 100)
    assert found == dict.fromkeys((*METRICS, "top5"), (1.0, 1.0)) | {"log_loss": (0.0, 0.0)}


def test_ten_thousand_samples_of_a_hundred_classes_are_fast() -> None:
    made = judged(10_000, 100, seed=0)
    start = perf_counter()
    found = intervals(*made, 100, 0, 1000)
    # Half a second on an idle core; a loop over resampled confusion matrices takes minutes.
    assert perf_counter() - start < 20.0
    assert all(low < high for low, high in found.values())
