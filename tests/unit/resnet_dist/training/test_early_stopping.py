"""When training ends early, also across resumes."""

import json
from math import nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.training.early_stopping import EarlyStopping

VALUES = st.lists(st.sampled_from([nan, 0.1, 0.2, 0.25, 0.3, 0.5, 0.9]), max_size=20)


def stops(stopping: EarlyStopping, values: list[float], monitor: str) -> list[bool]:
    found = []
    for value in values:
        stopping.update({monitor: value, "val/other": 0.0})
        found.append(stopping.should_stop)
    return found


@given(VALUES, st.sampled_from(["val/loss", "val/top1"]), st.integers(1, 4), st.sampled_from([0.0, 0.1]))
def test_it_stops_after_patience_epochs_without_an_improvement(
    values: list[float], monitor: str, patience: int, delta: float
) -> None:
    expected, best, waited = [], None, 0
    for value in values:
        signed = -value if monitor == "val/loss" else value
        improved = signed == signed and (best is None or signed > best + delta)
        best, waited = (signed, 0) if improved else (best, waited + 1)
        expected.append(waited >= patience)
    assert stops(EarlyStopping(monitor, patience, delta), values, monitor) == expected


@given(VALUES, st.sampled_from(["val/loss", "val/macro_f1"]), st.integers(0, 20))
def test_resumed_at_any_epoch_it_is_the_undisturbed_one(values: list[float], monitor: str, cut: int) -> None:
    undisturbed, first = EarlyStopping(monitor, 3, 0.05), EarlyStopping(monitor, 3, 0.05)
    expected = stops(undisturbed, values, monitor)
    before = stops(first, values[:cut], monitor)
    stored = json.loads(json.dumps(first.to_json(), allow_nan=False))
    resumed = EarlyStopping.from_json(stored, monitor, 3, 0.05)
    assert resumed.should_stop == first.should_stop
    assert before + stops(resumed, values[cut:], monitor) == expected
    assert resumed.to_json() == undisturbed.to_json()


def test_a_longer_patience_goes_on_and_another_monitor_begins_anew() -> None:
    stopping = EarlyStopping("val/loss", 2, 0.0)
    assert not stopping.should_stop
    assert stops(stopping, [0.5, 0.5, 0.5], "val/loss") == [False, False, True]
    longer = EarlyStopping.from_json(stopping.to_json(), "val/loss", 4, 0.0)
    assert stops(longer, [0.5, 0.5], "val/loss") == [False, True]
    other = EarlyStopping.from_json(stopping.to_json(), "val/top1", 2, 0.0)
    assert other.to_json() == EarlyStopping("val/top1", 2, 0.0).to_json()


def test_it_names_the_metric_and_the_epoch() -> None:
    stopping = EarlyStopping("val/loss", 2, 0.01)
    assert stops(stopping, [0.5, 0.25, 0.3, 0.245], "val/loss") == [False, False, False, True]
    assert stopping.reason(4) == (
        "early stopping after epoch 4: val/loss has not improved by more than 0.01 for 2 epochs, since epoch 2 (0.2500)"
    )
    never = EarlyStopping("val/top1", 1, 0.0)
    assert stops(never, [nan], "val/top1") == [True]
    assert never.reason(1) == "early stopping after epoch 1: val/top1 was no number for 1 epoch"


def test_a_metric_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError, match="val/loss"):
        EarlyStopping("val/loss", 1, 0.0).update({"val/top1": 0.5})


@pytest.mark.parametrize("damage", [{"best": True}, {"best": "nan"}, {"waited": None}, {"monitor": None}, {"x": 0}])
def test_a_damaged_state_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"damaged|has the fields"):
        EarlyStopping.from_json({**EarlyStopping("val/loss", 1, 0.0).to_json(), **damage}, "val/loss", 1, 0.0)
