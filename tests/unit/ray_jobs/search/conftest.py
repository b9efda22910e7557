"""What the tests of a search share: a space with conditions, and trials in it."""

from collections.abc import Callable
from typing import Any

import pytest

from ray_jobs.search.records import TrialRecord
from ray_jobs.search.space import Space

Table = dict[str, dict[str, Any]]


@pytest.fixture
def table() -> Table:
    """A [space] with every kind, conditions on two levels, and a child before its parents."""
    return {
        "schedule.polynomial_power": {"uniform": [0.5, 3.0], "when": {"schedule.kind": ["polynomial"]}},
        "optimizer.learning_rate": {"log_uniform": [0.001, 0.3]},
        "schedule.kind": {"categorical": ["cosine", "polynomial"], "when": {"freezing.freeze_depth": [0, 1, 2, 3]}},
        "freezing.freeze_depth": {"int": [0, 5]},
        "augmentation.crop_area": {"categorical": [[0.35, 1.0], [0.6, 1.0]]},
        "optimizer.clip_norm": {"categorical": ["none", 1.0]},
    }


@pytest.fixture
def space(table: Table) -> Space:
    """The same, read."""
    return Space.of(table)


@pytest.fixture(scope="session")
def make_trial() -> Callable[..., TrialRecord]:
    """A trial of the search: its number, its values at each epoch, and whatever else is asked for."""

    def make(number: int, *curve: float, state: str = "finished", **options: Any) -> TrialRecord:
        history = tuple({"epoch": float(epoch), "val/macro_f1": value} for epoch, value in enumerate(curve, 1))
        known: dict[str, Any] = {
            "params": {"optimizer.learning_rate": 0.001 * (number + 1)},
            "values": (max(curve),) if curve else (),
            "history": history,
        }
        return TrialRecord(**(known | {"number": number, "state": state} | options))

    return make
