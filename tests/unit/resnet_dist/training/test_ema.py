"""The moving average against its definition, step by step."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.training.ema import Ema
from resnet_dist.training.setup import Setup
from resnet_dist.training.state import TrainState

NO, YES = torch.tensor(False), torch.tensor(True)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@torch.no_grad()
def wander(module: nn.Module, generator: torch.Generator) -> None:
    """Move every trained parameter, as an optimizer would."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def copies(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters() if value.requires_grad}


def decay_at(step: int, decay: float) -> float:
    return min(decay, (1 + step) / (10 + step))


@given(
    decay=st.floats(0.01, 0.9999),
    first=st.sampled_from([0, 1, 100, 100_000]),
    skips=st.lists(st.booleans(), min_size=1, max_size=12),
    seed=st.integers(0, 10_000),
)
def test_averages_follow_their_definition(decay: float, first: int, skips: list[bool], seed: int) -> None:
    module, generator = network(), torch.Generator().manual_seed(seed)
    ema = Ema(module, decay)
    expected = {name: value.double() for name, value in copies(module).items()}
    for step, skip in enumerate(skips, start=first):
        wander(module, generator)
        before = {name: value.clone() for name, value in ema.averages.items()}
        ema.update(step, torch.tensor(skip))
        kept = 1.0 if skip else decay_at(step, decay)
        for name, weight in copies(module).items():
            expected[name] = kept * expected[name] + (1.0 - kept) * weight.double()
            if skip:
                assert torch.equal(ema.averages[name], before[name])
    for name, average in ema.averages.items():
        assert average.dtype == torch.float32
        torch.testing.assert_close(average.double(), expected[name], rtol=1e-5, atol=1e-5)


def test_the_decay_rises_from_a_tenth_to_its_own() -> None:
    module = nn.Linear(1, 1, bias=False)
    for step, kept in ((0, 0.1), (1, 2 / 11), (8, 0.5), (80, 0.9), (10_000, 0.9)):
        module.weight.data.fill_(0.0)
        ema = Ema(module, 0.9)
        module.weight.data.fill_(1.0)
        ema.update(step, NO)
        assert float(ema.averages["weight"]) == pytest.approx(1.0 - kept, rel=1e-6)


def test_after_its_rise_it_is_torchs() -> None:
    module, generator = network(), torch.Generator().manual_seed(1)
    ema = Ema(module, 0.99)
    theirs = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    theirs.update_parameters(module)  # its first call copies
    for step in range(1000, 1030):
        wander(module, generator)
        ema.update(step, NO)
        theirs.update_parameters(module)
    expected = dict(theirs.module.named_parameters())
    for name, average in ema.averages.items():
        torch.testing.assert_close(average, expected[name].data, rtol=1e-5, atol=1e-6)


def test_weights_that_stay_are_their_own_average_to_the_bit() -> None:
    module = network()
    ema = Ema(module, 0.9)
    for step in range(20):
        ema.update(step, NO)
    for name, weight in copies(module).items():
        assert torch.equal(ema.averages[name], weight)
        assert ema.averages[name].data_ptr() != module.get_parameter(name).data_ptr()


def test_only_what_is_trained_is_averaged() -> None:
    module = network()
    module[0].requires_grad_(False)
    ema = Ema(module, 0.5)
    assert list(ema.averages) == ["1.weight", "1.bias", "3.weight", "3.bias"]
    buffers = {name: value.clone() for name, value in module.named_buffers()}
    wander(module, torch.Generator().manual_seed(0))
    ema.update(0, NO)
    frozen = module[0].weight.detach().clone()
    with ema.applied():
        assert torch.equal(module[0].weight, frozen)
        assert all(torch.equal(value, buffers[name]) for name, value in module.named_buffers())


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True])
def test_applied_swaps_the_weights_and_puts_them_back(fails: bool) -> None:
    module = network()
    ema = Ema(module, 0.9)
    wander(module, torch.Generator().manual_seed(2))
    ema.update(0, NO)
    weights, averages = copies(module), {name: value.clone() for name, value in ema.averages.items()}
    try:
        with ema.applied():
            assert all(torch.equal(value, averages[name]) for name, value in copies(module).items())
            if fails:
                raise StoppedError
    except StoppedError:
        assert fails
    assert all(torch.equal(value, weights[name]) for name, value in copies(module).items())
    assert all(torch.equal(value, averages[name]) for name, value in ema.averages.items())
    assert any(not torch.equal(weights[name], averages[name]) for name in weights)


@pytest.mark.parametrize("freeze_depth", [0, 3, 5])
def test_averages_and_weights_come_back_from_a_checkpoint_to_the_bit(
    make_setup: Callable[..., Setup], freeze_depth: int
) -> None:
    def state_of(model: ResNetClassifier, freeze_depth: int) -> TrainState:
        return make_setup(model=model, freeze_depth=freeze_depth, ema_decay=0.9).state_at(0)

    state = state_of(build_model(Structure("resnet18"), 3, 0.0, seed=0), freeze_depth)
    assert state.ema is not None
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        wander(state.suffix, generator)
        state.ema.update(step, YES if step == 1 else NO)
    judged, stored = state.judged_weights(), state.training_state()
    assert not torch.equal(judged["fc.weight"], state.model.fc.weight)
    assert torch.equal(stored["raw_weights"]["fc.weight"], state.model.fc.weight)

    model = build_model(Structure("resnet18"), 3, 0.0, seed=1)
    model.load_state_dict(judged)
    restored = state_of(model, freeze_depth)
    restored.restore(stored)
    for each in (state, restored):
        assert each.ema is not None
        wander(each.suffix, torch.Generator().manual_seed(9))
        each.ema.update(3, NO)
    assert restored.ema is not None
    assert state.ema.averages.keys() == restored.ema.averages.keys()
    for name, value in state.ema.averages.items():
        assert torch.equal(restored.ema.averages[name], value), name
    for name, value in state.model.state_dict().items():
        assert torch.equal(restored.model.state_dict()[name], value), name
