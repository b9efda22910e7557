"""Running statistics taken anew, against their definition."""

import copy

import pytest
import torch
from torch import nn

from resnet_dist.compression.pruning.reestimate import reestimate
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split
from resnet_dist.model.widths import Widths
from tests.small_networks import images, trained_looking

SIZES = (3, 4, 2)
BATCHES = [(images(size, seed, 64), torch.zeros(size, dtype=torch.int64)) for seed, size in enumerate(SIZES)]


def network(squeeze_excite: bool = False) -> ResNetClassifier:
    return trained_looking(Structure("resnet18", squeeze_excite, Widths.of("resnet18", 0.25)))


def norms(model: ResNetClassifier) -> dict[str, nn.BatchNorm2d]:
    return {name: part for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)}


@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_they_are_the_weighted_means_of_the_microbatches_own(squeeze_excite: bool) -> None:
    model = network(squeeze_excite)
    inputs: dict[str, list[torch.Tensor]] = {}
    watched = copy.deepcopy(model).train()
    for name, part in norms(watched).items():
        part.register_forward_hook(lambda _, given, __, name=name: inputs.setdefault(name, []).append(given[0]))
    with torch.no_grad():
        for pixels, _ in BATCHES:
            watched(pixels)
    reestimate(model, BATCHES)
    for name, part in norms(model).items():
        assert len(inputs[name]) == len(SIZES)
        means = torch.stack([each.double().mean((0, 2, 3)) for each in inputs[name]])
        variances = torch.stack([each.double().transpose(0, 1).flatten(1).var(1) for each in inputs[name]])
        shares = torch.tensor(SIZES).double() / sum(SIZES)
        torch.testing.assert_close(part.running_mean, (shares @ means).float(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(part.running_var, (shares @ variances).float(), rtol=1e-4, atol=1e-5)


def test_all_else_stays_and_it_repeats_to_the_bit() -> None:
    model = network().train()
    split(model, 2)
    for count, part in enumerate(norms(model).values()):
        assert part.num_batches_tracked is not None
        part.num_batches_tracked.fill_(count)
        part.momentum = 0.3
    before = copy.deepcopy(model.state_dict())
    modes = [part.training for part in model.modules()]
    reestimate(model, BATCHES)
    once = copy.deepcopy(model.state_dict())
    reestimate(model, iter(BATCHES))
    assert [part.training for part in model.modules()] == modes
    assert len(set(modes)) == 2
    assert all(part.momentum == 0.3 for part in norms(model).values())
    for name, value in model.state_dict().items():
        assert torch.equal(value, once[name]), name
        assert torch.equal(value, before[name]) != ("running" in name), name


def test_statistics_of_one_microbatch_are_its_own() -> None:
    """So that in evaluation mode each BatchNorm gives what it gave in training mode, but for the variance's n - 1."""
    model = network()
    reestimate(model, BATCHES[:1])
    pixels = BATCHES[0][0]
    with torch.no_grad():
        stem = model.bn1(model.conv1(pixels))
        assert stem.std((0, 2, 3)).sub(model.bn1.weight.abs()).abs().max() < 1e-3
        assert stem.mean((0, 2, 3)).sub(model.bn1.bias).abs().max() < 1e-3


def test_without_images_there_are_none() -> None:
    model = network().train()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="at least one microbatch"):
        reestimate(model, [])
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        reestimate(model, [(images(1), torch.zeros(1, dtype=torch.int64))])
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
