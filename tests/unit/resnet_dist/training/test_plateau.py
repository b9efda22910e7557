"""The plateau against torch's, and its resume."""

import json
from math import inf, nan
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from resnet_dist.config import ScheduleConfig
from resnet_dist.training.schedules import Plateau

MONITORS = ["val/loss", "val/top1", "val/macro_f1"]
VALUES = st.lists(st.sampled_from([nan, 0.1, 0.1001, 0.2, 0.25, 0.3, 0.5, 0.9]), max_size=30)


def schedule(**fields: Any) -> ScheduleConfig:
    return ScheduleConfig(**({"kind": "plateau", "warmup_epochs": 0.0} | fields))


def factors(plateau: Plateau, values: list[float], monitor: str, first: int = 1) -> list[float]:
    """The factor after each epoch's validation, from epoch number `first` on."""
    found = []
    for done, value in enumerate(values, first):
        plateau.update({monitor: value}, done)
        found.append(plateau.factor)
    return found


@given(VALUES, st.sampled_from(MONITORS), st.integers(0, 4), st.sampled_from([0.0, 1e-4, 0.1]))
def test_the_factor_is_that_of_torch(values: list[float], monitor: str, patience: int, delta: float) -> None:
    config = schedule(
        plateau_monitor=monitor,
        plateau_patience=patience,
        plateau_min_delta=delta,
        plateau_factor=0.3,
        final_factor=0.02,
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    mode = "min" if monitor == "val/loss" else "max"
    reference = ReduceLROnPlateau(
        optimizer, mode, factor=0.3, patience=patience, threshold=delta, threshold_mode="abs", min_lr=0.02, eps=0.0
    )
    expected = []
    for value in values:
        reference.step(value)
        expected.append(optimizer.param_groups[0]["lr"])
    assert factors(Plateau(config, 10), values, monitor) == expected


@given(VALUES, st.sampled_from(["plateau", "cosine_then_plateau"]), st.integers(0, 30))
def test_resumed_at_any_epoch_it_is_the_undisturbed_one(values: list[float], kind: str, cut: int) -> None:
    config = schedule(kind=kind, plateau_patience=1)
    undisturbed, plateau = Plateau(config, 3), Plateau(config, 3)
    expected = factors(undisturbed, values, "val/loss")
    before = factors(plateau, values[:cut], "val/loss")
    resumed = Plateau.from_json(json.loads(json.dumps(plateau.to_json(), allow_nan=False)), config, 3)
    after = factors(resumed, values[cut:], "val/loss", first=len(values[:cut]) + 1)
    assert before + after == expected
    assert resumed.to_json() == undisturbed.to_json()


def test_behind_a_cosine_it_starts_with_the_cosines_last_validation() -> None:
    config = schedule(kind="cosine_then_plateau", plateau_patience=0, plateau_factor=0.5, plateau_floor=0.2)
    plateau = Plateau(config, 3)
    # Epochs 1 and 2 say nothing, though they were better; epoch 3 is what must be beaten.
    found = factors(plateau, [0.1, 0.9, 0.5, 0.4, 0.4, 0.45, 0.3, 0.6], "val/loss")
    assert found == [1.0, 1.0, 1.0, 1.0, 0.5, 0.25, 0.25, 0.2]


def test_warm_up_is_not_judged_but_for_its_end() -> None:
    plateau = Plateau(schedule(warmup_epochs=2.5, plateau_patience=0, plateau_factor=0.5), 10)
    assert factors(plateau, [0.1, 0.5, 0.6, 0.55, 0.7], "val/loss") == [1.0, 1.0, 1.0, 1.0, 0.5]
    longer = Plateau(schedule(warmup_epochs=99.0, plateau_patience=0, plateau_factor=0.5), 2)
    assert factors(longer, [0.5, 0.5, 0.5], "val/loss") == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("kind", ["cosine", "one_cycle", "constant", "step", "polynomial"])
def test_schedules_without_a_plateau_have_a_factor_of_one(kind: str) -> None:
    assert factors(Plateau(schedule(kind=kind, plateau_patience=0), 2), [0.5] * 9, "val/loss") == [1.0] * 9


@pytest.mark.parametrize("odd", [nan, inf, -inf])
@pytest.mark.parametrize("monitor", ["val/loss", "val/top1"])
def test_what_is_no_number_is_never_the_best(odd: float, monitor: str) -> None:
    plateau = Plateau(schedule(plateau_monitor=monitor, plateau_patience=1), 9)
    factors(plateau, [odd, 0.5, odd], monitor)
    assert plateau.to_json() == {"factor": 1.0, "monitor": monitor, "best": 0.5, "waited": 1}
    assert factors(plateau, [odd], monitor) == [0.3]


@pytest.mark.parametrize(
    "damage",
    [
        {"factor": 2.0},
        {"factor": None},
        {"factor": nan},
        {"best": "0.5"},
        {"best": nan},
        {"waited": -1},
        {"waited": True},
        {"waited": 1.0},
        {"monitor": 3},
        {"more": 1},
    ],
)
def test_a_damaged_state_is_refused(damage: dict[str, Any]) -> None:
    config = schedule()
    with pytest.raises(ValueError, match=r"damaged|has the fields"):
        Plateau.from_json({**Plateau(config, 3).to_json(), **damage}, config, 3)
    with pytest.raises(ValueError, match=r"damaged|has the fields"):
        Plateau.from_json({}, config, 3)
