"""The loss scale: exact, resumable, and what torch's own scaler does with its own step."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from resnet_dist.config import OptimizerConfig
from resnet_dist.training.loss_scale import LossScale
from resnet_dist.training.optimizer import build_optimizer, step_unless

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]


def network(device: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(device)


def loss_of(model: nn.Module, seed: int, poison: bool = False) -> torch.Tensor:
    device = next(model.parameters()).device
    images = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed)).to(device)
    loss = nn.functional.cross_entropy(model(images), torch.arange(5, device=device) % 3)
    return loss * float("inf") if poison else loss


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def train(model: nn.Module, optimizer: Any, scale: LossScale, bad: list[bool], first: int = 0) -> list[dict[str, Any]]:
    """The scale's state after each step; the steps in `bad` have infinite gradients."""
    states = []
    for number, poison in enumerate(bad, first):
        optimizer.zero_grad()
        scale.scale(loss_of(model, number, poison)).backward()
        scale.unscale(optimizer)
        step_unless(optimizer, ~torch.isfinite(torch.nn.utils.get_total_norm(gradients(model))))
        scale.update()
        states.append(scale.to_json())
    return states


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_are_bit_for_bit_those_without_a_scale(device: str) -> None:
    plain, scaled = network(device), network(device)
    scale = LossScale(torch.device(device), enabled=True)
    for seed in range(3):
        loss_of(plain, seed).backward()
        scale.scale(loss_of(scaled, seed)).backward()
    scale.unscale(build_optimizer(scaled, OptimizerConfig()))
    for one, other in zip(gradients(plain), gradients(scaled), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_training_is_that_of_torchs_scaler_with_its_own_step(device: str, kind: Any) -> None:
    bad = [True, False, False, True, False]
    config = OptimizerConfig(kind=kind, learning_rate=0.1)
    ours, theirs = network(device), network(device)
    scale = LossScale(torch.device(device), enabled=True)
    train(ours, build_optimizer(ours, config), scale, bad)
    scaler, optimizer = torch.amp.GradScaler(device), build_optimizer(theirs, config)
    for number, poison in enumerate(bad):
        optimizer.zero_grad()
        scaler.scale(loss_of(theirs, number, poison)).backward()
        scaler.step(optimizer)
        scaler.update()
    assert scale.to_json() == {"scale": scaler.get_scale(), "good_steps": 1}
    assert scale.to_json()["scale"] == 2.0**14
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_infinite_stays_so_for_the_steps_own_check(device: str) -> None:
    model, scale = network(device), LossScale(torch.device(device), enabled=True)
    optimizer = build_optimizer(model, OptimizerConfig())
    scale.scale(loss_of(model, 0)).backward()
    gradients(model)[0][0, 0] = torch.inf
    gradients(model)[1][0] = torch.nan
    scale.unscale(optimizer)
    assert float(gradients(model)[0][0, 0]) == torch.inf
    assert bool(gradients(model)[1][0].isnan())


def test_a_rank_that_has_scaled_nothing_yet_unscales_and_updates_alike() -> None:
    model, scale = network("cpu"), LossScale(torch.device("cpu"), enabled=True)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 2.0**16)
    scale.unscale(build_optimizer(model, OptimizerConfig()))
    scale.update()
    assert all(bool((gradient == 1.0).all()) for gradient in gradients(model))
    assert scale.to_json() == {"scale": 2.0**16, "good_steps": 1}


@given(st.lists(st.booleans(), max_size=8), st.integers(0, 8), st.integers(1990, 1999))
def test_resumed_at_any_step_it_is_the_undisturbed_one(bad: list[bool], cut: int, good: int) -> None:
    model, cpu = network("cpu"), torch.device("cpu")
    optimizer = build_optimizer(model, OptimizerConfig())
    undisturbed, first, resumed = (LossScale(cpu, enabled=True) for _ in range(3))
    for scale in (undisturbed, first):
        scale.restore({"scale": 4.0, "good_steps": good})  # the 2000th good step is near
    expected = train(model, optimizer, undisturbed, bad)
    before = train(model, optimizer, first, bad[:cut])
    resumed.restore(json.loads(json.dumps(first.to_json())))
    assert before + train(model, optimizer, resumed, bad[cut:], first=cut) == expected
    assert resumed.to_json() == undisturbed.to_json()


def test_the_scale_doubles_after_two_thousand_good_steps() -> None:
    model, scale = network("cpu"), LossScale(torch.device("cpu"), enabled=True)
    scale.restore({"scale": 8.0, "good_steps": 1998})
    states = train(model, build_optimizer(model, OptimizerConfig()), scale, [False, False])
    assert states == [{"scale": 8.0, "good_steps": 1999}, {"scale": 16.0, "good_steps": 0}]


def test_switched_off_it_does_nothing() -> None:
    model, scale = network("cpu"), LossScale(torch.device("cpu"), enabled=False)
    loss = loss_of(model, 0)
    assert scale.scale(loss) is loss
    loss.backward()
    before = [gradient.clone() for gradient in gradients(model)]
    scale.unscale(build_optimizer(model, OptimizerConfig()))
    scale.update()
    assert all(torch.equal(one, other) for one, other in zip(before, gradients(model), strict=True))
    assert not scale.enabled
    assert scale.to_json() == {}
    scale.restore({})


@pytest.mark.parametrize(
    "damage",
    [{"scale": 0.0}, {"scale": "8"}, {"scale": float("inf")}, {"good_steps": -1}, {"good_steps": 2000}, {"x": 1}],
)
def test_a_damaged_state_or_one_of_another_precision_is_refused(damage: dict[str, Any]) -> None:
    scale = LossScale(torch.device("cpu"), enabled=True)
    with pytest.raises(ValueError, match=r"damaged|has the fields"):
        scale.restore({**scale.to_json(), **damage})
    with pytest.raises(ValueError, match="has the fields"):
        scale.restore({})
    with pytest.raises(ValueError, match="has the fields"):
        LossScale(torch.device("cpu"), enabled=False).restore(scale.to_json())
