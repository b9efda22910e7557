"""SGD and AdamW as torch's plain loops compute them, and steps that are left out."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from resnet_dist.config import OptimizerConfig
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split
from resnet_dist.training.optimizer import build_optimizer, step_unless

CONFIGS: dict[str, dict[str, Any]] = {
    "sgd": {"kind": "sgd"},
    "sgd nesterov": {"kind": "sgd", "nesterov": True, "momentum": 0.8},
    "sgd without momentum": {"kind": "sgd", "momentum": 0.0},
    "adamw": {"kind": "adamw"},
    "adamw other betas": {"kind": "adamw", "betas": (0.5, 0.7), "eps": 1e-4},
}
kinds = st.sampled_from(sorted(CONFIGS))


def config_of(kind: str) -> OptimizerConfig:
    return OptimizerConfig(learning_rate=0.05, weight_decay=0.1, **CONFIGS[kind])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False), nn.Linear(4, 2))


def give_gradients(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def plain(module: nn.Module, kind: str) -> torch.optim.Optimizer:
    """torch's own, one parameter after the other, weight decay by parameter as its name says."""
    config = config_of(kind)
    groups = [
        {"params": [parameter], "weight_decay": 0.1 if name in {"0.weight", "2.weight", "3.weight"} else 0.0}
        for name, parameter in module.named_parameters()
    ]
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=0.05, betas=config.betas, eps=config.eps, foreach=False, fused=False)
    momentum, nesterov = config.momentum, config.nesterov
    return torch.optim.SGD(groups, lr=0.05, momentum=momentum, nesterov=nesterov, foreach=False, fused=False)


def everything(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    found = {name: value.detach().clone() for name, value in module.named_parameters()}
    for number, moments in optimizer.state_dict()["state"].items():
        found |= {f"{number} {name}": value.clone() for name, value in moments.items() if value is not None}
    return found


@pytest.mark.parametrize("kind", CONFIGS)
def test_steps_are_torchs_own(kind: str) -> None:
    ours, theirs = network(), network()
    optimizer, reference = build_optimizer(ours, config_of(kind)), plain(theirs, kind)
    for step in range(25):
        rate = 0.05 / (1 + step)  # as a schedule sets it
        for module, each in ((ours, optimizer), (theirs, reference)):
            give_gradients(module, step)
            for group in each.param_groups:
                group["lr"] = rate
        step_unless(optimizer, torch.tensor(False))
        reference.step()
        expected = dict(theirs.named_parameters())
        for name, value in ours.named_parameters():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=f"{name} after step {step}")


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("freeze_depth", [0, 2, 5])
def test_weight_decay_is_for_convolutions_and_the_heads_weight_only(kind: str, freeze_depth: int) -> None:
    model = build_model(Structure("resnet18"), 3, 0.0, seed=0)
    _, suffix = split(model, freeze_depth)
    optimizer = build_optimizer(suffix, config_of(kind))
    names = {parameter: name for name, parameter in suffix.named_parameters()}
    layers = dict(suffix.named_modules())
    seen: list[str] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names[parameter]
            layer = layers[name.rpartition(".")[0]]
            decays = name.endswith(".weight") and isinstance(layer, nn.Conv2d | nn.Linear)
            assert group["weight_decay"] == (0.1 if decays else 0.0), name
            seen.append(name)
    trained = [name for name, parameter in suffix.named_parameters() if parameter.requires_grad]
    assert sorted(seen) == sorted(trained)
    assert {name.partition(".")[0] for name in trained} >= {"fc"}


@pytest.mark.parametrize("kind", CONFIGS)
def test_without_a_gradient_norms_and_biases_stay_and_weights_decay(kind: str) -> None:
    module = network()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    step_unless(build_optimizer(module, config_of(kind)), torch.tensor(False))
    for name, value in module.named_parameters():
        decayed = name in {"0.weight", "2.weight", "3.weight"}
        momentum = 1.8 if kind == "sgd nesterov" else 1.0  # its first step looks ahead
        expected = before[name] * (1.0 - 0.05 * 0.1 * momentum) if decayed else before[name]
        torch.testing.assert_close(value.detach(), expected)


@given(kind=kinds, skips=st.lists(st.booleans(), max_size=8))
def test_a_step_left_out_is_as_if_it_had_never_been(kind: str, skips: list[bool]) -> None:
    with_skips, without = network(), network()
    first, second = build_optimizer(with_skips, config_of(kind)), build_optimizer(without, config_of(kind))
    for step, skip in enumerate(skips):
        give_gradients(with_skips, step)
        if skip:
            for parameter in with_skips.parameters():
                assert parameter.grad is not None
                parameter.grad[..., 0] = torch.nan if step % 2 else torch.inf
        before = everything(with_skips, first)
        step_unless(first, torch.tensor(skip))
        after = everything(with_skips, first)
        if skip:
            assert all(torch.equal(after[name], value) for name, value in before.items())
        else:
            give_gradients(without, step)
            second.step()
    found, expected = everything(with_skips, first), everything(without, second)
    assert expected.keys() <= found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    # AdamW makes its moments in its first step, taken or not.
    assert not any(bool(value.any()) for name, value in found.items() if name not in expected)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("skip", [True, False])
def test_the_flag_is_gone_after_the_step(kind: str, skip: bool) -> None:
    module = network()
    optimizer = build_optimizer(module, config_of(kind))
    give_gradients(module, 0)
    before = everything(module, optimizer)
    step_unless(optimizer, torch.tensor(skip))
    assert not hasattr(optimizer, "found_inf")
    give_gradients(module, 1)
    optimizer.step()  # a plain step is one
    after = everything(module, optimizer)
    assert not torch.equal(after["0.weight"], before["0.weight"])


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_state_that_was_stored_after_a_skipped_first_step_goes_on_as_the_undisturbed(kind: str) -> None:
    ours = network()
    optimizer = build_optimizer(ours, config_of(kind))
    give_gradients(ours, 0)
    step_unless(optimizer, torch.tensor(True))
    restored = network()
    other = build_optimizer(restored, config_of(kind))
    other.load_state_dict(deepcopy(optimizer.state_dict()))
    for module, each in ((ours, optimizer), (restored, other)):
        for step in (1, 2):
            give_gradients(module, step)
            step_unless(each, torch.tensor(False))
    found, expected = everything(restored, other), everything(ours, optimizer)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
