"""Metrics over the folds of a cross-validation."""

from math import inf, isnan, nan

import pytest

from ray_jobs.training.cross_validation import aggregate


def test_folds_are_summed_up_by_mean_and_students_interval() -> None:
    found = aggregate([0.5, 0.7, 0.9])
    assert found.mean == pytest.approx(0.7)
    assert found.high - found.mean == pytest.approx(4.303 * 0.2 / 3**0.5, rel=1e-3)  # as printed tables have it
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


@pytest.mark.parametrize("value", [nan, inf])
def test_a_fold_without_a_finite_value_leaves_no_mean(value: float) -> None:
    found = aggregate([0.5, value])
    assert isnan(found.mean)
    assert isnan(found.low)
