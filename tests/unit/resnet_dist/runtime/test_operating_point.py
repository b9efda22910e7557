"""Laws of calibrated probabilities and of answers."""

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from resnet_dist.runtime.errors import BundleError
from resnet_dist.runtime.operating_point import REJECTED, OperatingPoint

CLASSES = ("a", "b", "c", "d")
logits = arrays(np.float32, st.tuples(st.integers(1, 6), st.just(4)), elements=st.floats(-1e4, 1e4, width=32))
points = st.builds(
    OperatingPoint,
    st.floats(1e-3, 1e3),
    st.dictionaries(st.integers(0, 3), st.floats(0, 1), max_size=4),
    st.floats(0, 0.999),
)


@given(points, logits)
def test_probabilities_are_some_and_keep_the_order(point: OperatingPoint, given_logits: np.ndarray):
    found = point.probabilities(given_logits)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    for row, values in zip(found, given_logits, strict=True):
        assert (np.diff(row[np.argsort(values, kind="stable")]) >= 0).all()


@given(points, logits, st.floats(-100, 100))
def test_what_all_logits_share_says_nothing(point: OperatingPoint, given_logits: np.ndarray, shift: float):
    exact = np.rint(given_logits)  # sums of whole numbers are exact
    shifted = point.probabilities(exact + np.float32(round(shift)))
    np.testing.assert_allclose(shifted, point.probabilities(exact), atol=1e-6)


def by_the_words(point: OperatingPoint, row: list[float]) -> tuple[int, bool]:
    """The class's docstring, word for word, for one image: the class, and whether it is answered."""

    def ratio(number: int) -> float:
        return row[number] / max(point.thresholds[number], sys.float_info.min)

    reached = [number for number in sorted(point.thresholds) if row[number] >= point.thresholds[number]]
    if reached:
        return max(reached, key=ratio), True
    others = [number for number in range(len(row)) if number not in point.thresholds]
    answer = max(others, key=lambda number: row[number]) if others else max(sorted(point.thresholds), key=ratio)
    return answer, row[answer] >= point.reject_below


values = st.floats(0, 1) | st.integers(0, 4).map(lambda quarter: quarter / 4)  # many are equal to each other
rows = arrays(np.float64, st.tuples(st.integers(1, 6), st.just(4)), elements=values)
decisions = st.builds(
    OperatingPoint, st.just(1.0), st.dictionaries(st.integers(0, 3), values, max_size=4), st.floats(0, 0.999)
)


@given(decisions, rows)
def test_a_decision_is_what_the_docstring_says(point: OperatingPoint, probabilities: np.ndarray):
    candidates, is_answered = point.decide(probabilities)
    expected = [by_the_words(point, row) for row in probabilities.tolist()]
    assert list(zip(candidates.tolist(), is_answered.tolist(), strict=True)) == expected
    assert point.answers(probabilities).tolist() == [answer if sure else REJECTED for answer, sure in expected]


@given(decisions, rows)
def test_a_class_over_its_own_threshold_is_never_rejected(point: OperatingPoint, probabilities: np.ndarray):
    over = np.zeros(len(probabilities), dtype=bool)
    for number, limit in point.thresholds.items():
        over |= probabilities[:, number] >= limit
    assert (point.answers(probabilities)[over] != REJECTED).all()


def test_a_threshold_below_reject_below_still_answers_its_class():
    point = OperatingPoint(thresholds={1: 0.2}, reject_below=0.6)
    assert point.answers(np.array([[0.5, 0.3, 0.2], [0.55, 0.1, 0.35], [0.7, 0.1, 0.2]])).tolist() == [1, REJECTED, 0]


@given(decisions, rows, st.floats(0, 0.999))
def test_rejecting_more_changes_no_other_answer(point: OperatingPoint, probabilities: np.ndarray, limit: float):
    before = point.answers(probabilities)
    stricter = OperatingPoint(point.temperature, point.thresholds, max(point.reject_below, limit))
    after = stricter.answers(probabilities)
    assert ((after == before) | (after == REJECTED)).all()


@given(arrays(np.float32, (3, 4), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_probabilities_are_finite_at_any_temperature(any_logits: np.ndarray):
    for temperature in (5e-324, 1e-300, 1.0, 1e308):
        found = OperatingPoint(temperature).probabilities(any_logits)
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found.sum(axis=1), 1)


@given(points)
def test_json_gives_the_same_point_back(point: OperatingPoint):
    assert OperatingPoint.from_json(point.to_json(CLASSES), CLASSES) == point


GOOD = {"temperature": 1.0, "thresholds": {"a": 0.5}, "reject_below": 0.1}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        GOOD | {"temperature": 0.0},
        GOOD | {"temperature": float("nan")},
        GOOD | {"thresholds": {"unknown": 0.5}},
        GOOD | {"thresholds": {"a": 1.5}},
        GOOD | {"reject_below": 1.0},
        GOOD | {"more": 1},
    ],
)
def test_what_is_no_operating_point_is_refused(value: Any):
    assert OperatingPoint.from_json(GOOD, CLASSES).reject_below == 0.1
    with pytest.raises(BundleError, match="operating point"):
        OperatingPoint.from_json(value, CLASSES)
