import json
from math import inf, isnan, nan

import pytest

from ray_jobs.run.outcome import TrainOutcome
from ray_jobs.training.cross_validation import aggregate


@pytest.mark.parametrize(("value", "stored"), [(0.5, 0.5), (nan, "nan"), (-inf, "-inf")])
def test_what_a_run_has_come_to_is_json_whatever_its_numbers(value: float, stored: float | str) -> None:
    outcome = TrainOutcome("runs/a", 6, 2, {"val/loss": value}, None, already_finished=False)
    assert json.loads(json.dumps(outcome.to_json(), allow_nan=False))["metrics"] == {"val/loss": stored}


def test_folds_are_summed_up_by_mean_and_students_interval() -> None:
    found = aggregate([0.5, 0.7, 0.9])
    assert found.mean == pytest.approx(0.7)
    assert found.high - found.mean == pytest.approx(4.303 * 0.2 / 3**0.5, rel=1e-3)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


@pytest.mark.parametrize("value", [nan, inf])
def test_a_fold_that_came_to_nothing_leaves_no_mean(value: float) -> None:
    found = aggregate([0.5, value])
    assert isnan(found.mean)
    assert isnan(found.low)
