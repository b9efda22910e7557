import json
from math import inf, nan

import pytest

from ray_jobs.run.outcome import TrainOutcome


@pytest.mark.parametrize(("value", "stored"), [(0.5, 0.5), (nan, "nan"), (-inf, "-inf")])
def test_what_a_run_has_come_to_is_json_whatever_its_numbers(value: float, stored: float | str) -> None:
    outcome = TrainOutcome("runs/a", 6, 2, {"val/loss": value}, None, already_finished=False)
    assert json.loads(json.dumps(outcome.to_json(), allow_nan=False))["metrics"] == {"val/loss": stored}
