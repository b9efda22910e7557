"""The learning rate at every step: by hand at its corners, and against torch's own schedulers in between."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from resnet_dist.config import ScheduleConfig
from resnet_dist.training.schedules import learning_rate

PEAK = 0.5
configs = st.builds(
    ScheduleConfig,
    kind=st.sampled_from(["cosine", "one_cycle", "constant"]),
    warmup_epochs=st.floats(0.0, 5.0),
    one_cycle_rise=st.floats(0.01, 0.99),
    initial_factor=st.floats(0.01, 1.0),
    final_factor=st.floats(0.0, 1.0),
)


def rates(config: ScheduleConfig, steps: int, steps_per_epoch: int, epochs: int) -> list[float]:
    return [learning_rate(config, PEAK, step, steps_per_epoch, epochs) for step in range(steps)]


def rates_of_torch(build: Callable[[torch.optim.Optimizer], LRScheduler], steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=PEAK)
    scheduler = build(optimizer)
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def test_cosine_at_its_corners() -> None:
    config = ScheduleConfig(kind="cosine", warmup_epochs=2, initial_factor=0.1, final_factor=0.02)
    found = rates(config, 1000, 10, 7)  # 20 steps of warm-up, 70 in all
    assert found[0] == pytest.approx(0.1 * PEAK)
    assert found[10] == pytest.approx(0.55 * PEAK)  # half of the way up
    assert found[20] == PEAK
    assert max(found[19], found[21]) < PEAK
    assert max(found) == found[20]
    assert found[69] == pytest.approx(0.02 * PEAK)
    assert set(found[70:]) == {found[69]}
    without = rates(config.model_copy(update={"warmup_epochs": 0.0}), 71, 10, 7)
    assert without[0] == pytest.approx(PEAK)
    assert without[69] == without[70] == found[69]


def test_one_cycle_at_its_corners() -> None:
    config = ScheduleConfig(kind="one_cycle", one_cycle_rise=0.25, initial_factor=0.04, final_factor=0.001)
    found = rates(config, 300, 4, 25)
    assert found[0] == pytest.approx(0.04 * PEAK)
    assert found[25] == PEAK
    assert max(found[24], found[26]) < PEAK
    assert found[99] == pytest.approx(0.001 * PEAK)
    assert set(found[100:]) == {found[99]}


def test_constant_at_its_corners() -> None:
    config = ScheduleConfig(kind="constant", warmup_epochs=0.5, initial_factor=0.2)
    found = rates(config, 100, 8, 3)
    assert found[0] == pytest.approx(0.2 * PEAK)
    assert found[3] < PEAK
    assert set(found[4:]) == {PEAK}


@pytest.mark.parametrize("kind", ["cosine", "constant"])
def test_a_warmup_longer_than_the_schedule_is_cut_to_its_length(kind: str) -> None:
    long = ScheduleConfig(kind=kind, warmup_epochs=100)  # type: ignore[arg-type]
    whole = long.model_copy(update={"warmup_epochs": 2.0})
    found = rates(long, 30, 5, 2)
    assert found == rates(whole, 30, 5, 2)
    assert found[:10] == sorted(found[:10])
    assert found[9] < PEAK
    assert set(found[10:]) == {PEAK * (long.final_factor if kind == "cosine" else 1.0)}


@given(
    steps_per_epoch=st.integers(1, 40),
    epochs=st.integers(1, 8),
    warmup=st.floats(0.0, 4.0),
    initial=st.floats(0.01, 1.0),
    final=st.floats(0.0, 1.0),
)
def test_cosine_is_torchs_linear_warmup_and_cosine_annealing(
    steps_per_epoch: int, epochs: int, warmup: float, initial: float, final: float
) -> None:
    total = steps_per_epoch * epochs
    rising = round(warmup * steps_per_epoch)
    falling = total - 1 - rising
    assume(falling > 0)

    def build(optimizer: torch.optim.Optimizer) -> LRScheduler:
        fall = CosineAnnealingLR(optimizer, T_max=falling, eta_min=PEAK * final)
        if not rising:
            return fall
        rise = LinearLR(optimizer, start_factor=initial, end_factor=1.0, total_iters=rising)
        return SequentialLR(optimizer, [rise, fall], milestones=[rising])

    config = ScheduleConfig(kind="cosine", warmup_epochs=warmup, initial_factor=initial, final_factor=final)
    found = rates(config, total, steps_per_epoch, epochs)
    assert found == pytest.approx(rates_of_torch(build, total), rel=1e-9, abs=1e-12)


@given(
    total=st.integers(4, 200),
    rise=st.floats(0.05, 0.9),
    initial=st.floats(0.01, 1.0),
    final=st.floats(1e-5, 1.0),
)
def test_one_cycle_is_torchs(total: int, rise: float, initial: float, final: float) -> None:
    peak_step = max(round(rise * total), 1)
    assume(peak_step < total - 1)

    def build(optimizer: torch.optim.Optimizer) -> LRScheduler:
        # torch reaches the peak at step pct_start * total - 1.
        return OneCycleLR(
            optimizer,
            max_lr=PEAK,
            total_steps=total,
            pct_start=(peak_step + 1) / total,
            anneal_strategy="cos",
            cycle_momentum=False,
            div_factor=1.0 / initial,
            final_div_factor=initial / final,
        )

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=PEAK)
    scheduler = build(optimizer)
    expected = [scheduler.get_last_lr()[0]]
    for _ in range(total - 1):
        optimizer.step()
        scheduler.step()
        expected.append(scheduler.get_last_lr()[0])
    config = ScheduleConfig(kind="one_cycle", one_cycle_rise=rise, initial_factor=initial, final_factor=final)
    assert rates(config, total, total, 1) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(steps_per_epoch=st.integers(1, 40), warmup=st.floats(0.0, 3.0), initial=st.floats(0.01, 1.0))
def test_constant_is_torchs_linear_warmup(steps_per_epoch: int, warmup: float, initial: float) -> None:
    rising = round(warmup * steps_per_epoch)

    def build(optimizer: torch.optim.Optimizer) -> LRScheduler:
        if not rising:
            return ConstantLR(optimizer, factor=1.0, total_iters=0)
        return LinearLR(optimizer, start_factor=initial, end_factor=1.0, total_iters=rising)

    config = ScheduleConfig(kind="constant", warmup_epochs=warmup, initial_factor=initial)
    found = rates(config, 6 * steps_per_epoch, steps_per_epoch, 4)
    assert found == pytest.approx(rates_of_torch(build, 6 * steps_per_epoch), rel=1e-9)


@given(config=configs, steps_per_epoch=st.integers(1, 50), epochs=st.integers(1, 20))
def test_the_rate_stays_in_bounds_rises_once_and_ends_for_good(
    config: ScheduleConfig, steps_per_epoch: int, epochs: int
) -> None:
    total = steps_per_epoch * epochs
    found = rates(config, total + 1, steps_per_epoch, epochs)
    least = PEAK * min(config.initial_factor, config.final_factor if config.kind != "constant" else 1.0)
    assert all(least * (1 - 1e-12) <= rate <= PEAK * (1 + 1e-12) for rate in found)
    top = found.index(max(found))
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(found[: top + 1]))
    assert all(a * (1 + 1e-12) >= b for a, b in pairwise(found[top:]))
    for beyond in (total + 1, 2 * total + 7, 10**9):
        assert learning_rate(config, PEAK, beyond, steps_per_epoch, epochs) == found[total]
    end = PEAK * (1.0 if config.kind == "constant" else config.final_factor)
    assert found[total] == end


@given(config=configs, peak=st.floats(1e-6, 1e3), step=st.integers(0, 500))
def test_the_rate_is_proportional_to_the_peak(config: ScheduleConfig, peak: float, step: int) -> None:
    unit = learning_rate(config, 1.0, step, 20, 10)
    assert learning_rate(config, peak, step, 20, 10) == peak * unit
