"""Metrics against scikit-learn as an oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from sklearn import metrics as oracle

from resnet_dist.errors import RunError
from resnet_dist.evaluation.metrics import confusion_matrix, confusion_metrics, in_top, log_losses, per_class


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """(classes, labels, predictions); classes may be absent from either."""
    classes = draw(st.integers(1, 8))
    samples = draw(st.integers(1, 40))
    column = hnp.arrays(np.int64, samples, elements=st.integers(0, classes - 1))
    return classes, draw(column), draw(column)


@st.composite
def judged(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(logits, labels), with ties and with large values."""
    classes, samples = draw(st.integers(2, 9)), draw(st.integers(1, 20))
    some = st.sampled_from([0.0, 1.0, -1.0, 100.0]) | st.floats(-1e4, 1e4, width=32)
    logits = draw(hnp.arrays(np.float32, (samples, classes), elements=some))
    return logits, draw(hnp.arrays(np.int64, samples, elements=st.integers(0, classes - 1)))


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(answers())
def test_counts_and_averages_are_scikit_learns(made: tuple[int, NDArray[np.int64], NDArray[np.int64]]) -> None:
    classes, labels, predictions = made
    everyone, present = list(range(classes)), np.unique(labels)
    confusion = confusion_matrix(labels, predictions, classes)
    assert np.array_equal(confusion, oracle.confusion_matrix(labels, predictions, labels=everyone))
    recall, precision, f1 = per_class(confusion)
    theirs = oracle.precision_recall_fscore_support(labels, predictions, labels=everyone, zero_division=0)
    for ours, expected in zip((precision, recall, f1, confusion.sum(axis=1)), theirs, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
    metrics = confusion_metrics(confusion)
    assert metrics["top1"] == pytest.approx(oracle.accuracy_score(labels, predictions), rel=1e-12)
    expected_f1 = oracle.f1_score(labels, predictions, labels=present, average="macro", zero_division=0)
    assert metrics["macro_f1"] == pytest.approx(expected_f1, rel=1e-12)
    expected_recall = oracle.recall_score(labels, predictions, labels=present, average="macro", zero_division=0)
    assert metrics["balanced_accuracy"] == pytest.approx(expected_recall, rel=1e-12)


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@given(answers())
def test_balanced_accuracy_is_scikit_learns(made: tuple[int, NDArray[np.int64], NDArray[np.int64]]) -> None:
    classes, labels, predictions = made
    ours = confusion_metrics(confusion_matrix(labels, predictions, classes))["balanced_accuracy"]
    assert ours == pytest.approx(oracle.balanced_accuracy_score(labels, predictions), rel=1e-12)


@given(judged())
def test_log_loss_is_finite_and_is_scikit_learns_where_that_one_does_not_clip(
    made: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> None:
    logits, labels = made
    losses = log_losses(logits, labels)
    assert losses.dtype == np.float64
    assert np.isfinite(losses).all()
    assert (losses >= 0.0).all()
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    if losses.max() < 30.0:
        expected = oracle.log_loss(labels, probabilities, labels=list(range(logits.shape[1])))
        assert losses.mean() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_log_loss_of_a_sure_and_wrong_answer_is_its_margin() -> None:
    largest = float(np.finfo(np.float32).max)
    logits = np.array([[1000.0, 0.0], [largest, -largest]], dtype=np.float32)
    assert log_losses(logits, np.array([1, 1])).tolist() == [1000.0, 2 * largest]


@given(judged(), st.integers(1, 10))
def test_top_k_is_the_rank_in_a_stable_sort(made: tuple[NDArray[np.float32], NDArray[np.int64]], count: int) -> None:
    logits, labels = made
    best = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    assert np.array_equal(in_top(logits, labels, count), (best == labels[:, None]).any(axis=1))
    assert np.array_equal(in_top(logits, labels, 1), logits.argmax(axis=1) == labels)


@given(hnp.arrays(np.float32, (12, 7), elements=st.floats(-5, 5, width=32), unique=True), st.integers(1, 6))
def test_top_k_is_scikit_learns_without_ties(logits: NDArray[np.float32], count: int) -> None:
    labels = np.arange(12) % 7
    expected = oracle.top_k_accuracy_score(labels, logits, k=count, labels=list(range(7)))
    assert in_top(logits, labels, count).mean() == pytest.approx(expected)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_counted(broken: float) -> None:
    logits = np.zeros((5, 3), dtype=np.float32)
    logits[1, 0] = logits[4, 1] = logits[4, 2] = broken
    with pytest.raises(RunError, match="2 of 5 samples have logits that are not finite"):
        log_losses(logits, np.zeros(5, dtype=np.int64))
