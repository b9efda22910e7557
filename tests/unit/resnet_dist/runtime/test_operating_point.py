"""Laws of calibrated probabilities and of answers."""

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


def by_the_words(point: OperatingPoint, row: np.ndarray) -> int:
    """The class's docstring, word for word."""
    reached = [number for number, limit in point.thresholds.items() if row[number] >= limit]
    others = [number for number in range(len(row)) if number not in point.thresholds]
    if reached:
        tiny = np.finfo(np.float64).tiny
        answer = max(sorted(reached), key=lambda number: row[number] / max(point.thresholds[number], tiny))
    else:
        of = others or list(point.thresholds)
        if not others:
            tiny = np.finfo(np.float64).tiny
            answer = max(sorted(of), key=lambda number: row[number] / max(point.thresholds[number], tiny))
        else:
            answer = max(of, key=lambda number: row[number])
    return answer if row[answer] >= point.reject_below else REJECTED


@given(points, logits)
def test_answers_are_what_the_docstring_says(point: OperatingPoint, given_logits: np.ndarray):
    found = point.probabilities(given_logits)
    # A threshold of 0 is always reached; its ratio to a probability of 0 is 0, which is no alarm of ours.
    if any(limit == 0 for limit in point.thresholds.values()):
        found = np.maximum(found, 1e-300)
    assert point.answers(found).tolist() == [by_the_words(point, row) for row in found]


@given(points, logits, st.floats(0, 0.999))
def test_rejecting_more_changes_no_other_answer(point: OperatingPoint, given_logits: np.ndarray, limit: float):
    found = point.probabilities(given_logits)
    before = point.answers(found)
    stricter = OperatingPoint(point.temperature, point.thresholds, max(point.reject_below, limit)).answers(found)
    assert ((stricter == before) | (stricter == REJECTED)).all()


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
