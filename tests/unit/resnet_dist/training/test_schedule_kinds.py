"""Each kind of schedule against its formula and torch's own schedulers."""

from math import cos, pi
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LRScheduler, PolynomialLR, StepLR

from resnet_dist.config import ScheduleConfig
from resnet_dist.training.schedules import learning_rate

PEAK, PER_EPOCH = 0.4, 10
WARM = ["cosine", "constant", "step", "polynomial", "plateau", "cosine_then_plateau"]


def rates(epochs: int, beyond: int = 0, **fields: Any) -> list[float]:
    config = ScheduleConfig(**fields)
    return [learning_rate(config, PEAK, step, PER_EPOCH, epochs) for step in range(PER_EPOCH * (epochs + beyond))]


def torch_rates(steps: int, make: Any, **options: Any) -> list[float]:
    """What one of torch's schedulers gives, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler: LRScheduler = make(optimizer, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("kind", WARM)
@pytest.mark.parametrize("warmup", [0.0, 0.5, 2.0, 99.0])
def test_warm_up_is_the_same_line_for_all_and_is_cut_to_the_schedule(kind: str, warmup: float) -> None:
    found = rates(3, kind=kind, warmup_epochs=warmup, initial_factor=0.1)
    length = min(round(warmup * PER_EPOCH), 30)
    assert found[:length] == [PEAK * (0.1 + 0.9 * step / length) for step in range(length)]
    assert length == 30 or found[length] == PEAK


@pytest.mark.parametrize("step_epochs", [1.0, 3.0, 0.7])
def test_steps_are_those_of_torch_counted_from_the_end_of_warm_up(step_epochs: float) -> None:
    found = rates(9, kind="step", step_epochs=step_epochs, step_factor=0.3, warmup_epochs=1.0)
    expected = torch_rates(80, StepLR, step_size=round(10 * step_epochs), gamma=0.3)
    assert found[10:] == pytest.approx(expected, rel=1e-12)


def test_steps_shorter_than_an_optimizer_step_are_one() -> None:
    found = rates(1, kind="step", step_epochs=0.01, step_factor=0.5, warmup_epochs=0.0)
    assert found == [PEAK * 0.5**step for step in range(10)]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_polynomial_is_that_of_torch(power: float) -> None:
    found = rates(5, kind="polynomial", polynomial_power=power, final_factor=0.0)
    expected = torch_rates(40, PolynomialLR, total_iters=39, power=power)
    assert found[10:] == pytest.approx(expected, rel=1e-12)
    assert found[-1] == 0.0


def test_the_polynomial_ends_at_the_final_rate() -> None:
    found = rates(3, 1, kind="polynomial", polynomial_power=3.0, final_factor=0.25, warmup_epochs=0.0)
    assert found[:29] == pytest.approx([PEAK * (0.25 + 0.75 * (1 - step / 29) ** 3) for step in range(29)])
    assert found[29:] == [PEAK * 0.25] * 11


def test_a_plateau_is_constant_here_and_a_cosine_before_one_is_that_cosine() -> None:
    assert rates(4, 2, kind="plateau") == rates(4, 2, kind="constant")
    assert rates(4, 2, kind="cosine_then_plateau", final_factor=0.05) == rates(4, 2, kind="cosine", final_factor=0.05)


def test_cosine_and_one_cycle_are_their_formulas() -> None:
    cosine = rates(3, 1, kind="cosine", final_factor=0.01)
    assert cosine[10:29] == [PEAK * (0.01 + 0.99 * (1 + cos(pi * step / 19)) / 2) for step in range(19)]
    assert cosine[29:] == [PEAK * 0.01] * 11
    cycle = rates(3, 1, kind="one_cycle", one_cycle_rise=0.3, initial_factor=0.04, final_factor=0.01)
    assert cycle[:9] == [PEAK * (1.0 + (0.04 - 1.0) * (1 + cos(pi * step / 9)) / 2) for step in range(9)]
    assert cycle[9] == PEAK
    assert cycle[29:] == [PEAK * 0.01] * 11


@given(
    st.sampled_from([*WARM, "one_cycle"]),
    st.integers(1, 5),
    st.floats(0.0, 6.0),
    st.floats(0.0, 1.0),
    st.floats(0.05, 4.0),
)
def test_rates_stay_between_nothing_and_the_peak_and_hold_beyond_the_end(
    kind: str, epochs: int, warmup: float, final: float, step_epochs: float
) -> None:
    found = rates(epochs, 2, kind=kind, warmup_epochs=warmup, final_factor=final, step_epochs=step_epochs)
    assert all(0.0 <= rate <= PEAK * (1 + 1e-12) for rate in found)
    assert len(set(found[PER_EPOCH * epochs :])) == 1
    if kind == "step" and warmup * PER_EPOCH < PER_EPOCH * epochs - 1:
        assert found[-1] == found[PER_EPOCH * epochs - 1]
