"""Trunk and suffix: together the network, apart what is frozen and what is trained."""

import copy

import pytest
import torch
from torch import nn

from resnet_dist.model.architectures import Arch
from resnet_dist.model.freezing import frozen_stages, stage_of
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import Trunk, split

torch.set_num_threads(1)

SPLIT_ARCHS: list[Arch] = ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"]


def trained_looking(arch: Arch, seed: int = 0) -> ResNetClassifier:
    """A network whose BatchNorm has statistics and affine that folding must take into account."""
    model = build_model(Structure(arch), 5, 0.0, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.normal_(0.0, 0.2, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
                layer.weight.uniform_(0.3, 1.2, generator=generator)
                layer.bias.normal_(0.0, 0.2, generator=generator)
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def images(count: int = 2, seed: int = 1) -> torch.Tensor:
    made = torch.randn((count, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
    return made.to(memory_format=torch.channels_last)


def suffix_input(trunk: Trunk | None, batch: torch.Tensor) -> torch.Tensor:
    return batch if trunk is None else trunk(batch)


@pytest.mark.parametrize(
    "arch", [pytest.param(each, marks=pytest.mark.slow) if "wide" in each else each for each in SPLIT_ARCHS]
)
def test_trunk_then_suffix_is_the_model(arch: Arch) -> None:
    model = trained_looking(arch).eval()
    with torch.no_grad():
        expected = model(images())
    for depth in range(6):
        trunk, suffix = split(model, depth)
        with torch.no_grad():
            got = suffix.eval()(suffix_input(trunk, images()))
        error = (got - expected).abs().max() / expected.abs().max()
        assert error < 1e-5, (arch, depth, error)


@pytest.mark.parametrize("depth", range(1, 6))
def test_no_batch_norm_is_left_in_the_trunk(depth: int) -> None:
    trunk, _ = split(trained_looking("resnet50"), depth)
    assert trunk is not None
    assert not [layer for layer in trunk.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert (trunk(images()).ndim == 2) == (depth == 5)


@pytest.mark.parametrize("depth", range(6))
def test_training_the_suffix_leaves_the_frozen_stages_to_the_bit(depth: int) -> None:
    model = trained_looking("resnet18")
    before = copy.deepcopy(model.state_dict())
    trunk, suffix = split(model, depth)
    suffix.train()
    optimizer = torch.optim.SGD(suffix.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss = suffix(suffix_input(trunk, images(4)), torch.full((4, 512), 1.5)).square().mean()
        loss.backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        frozen = stage_of(name) in frozen_stages(depth)
        # Every tensor of the suffix moves, the model's own included: it is shared, not copied.
        assert torch.equal(value, before[name]) == frozen, name


@pytest.mark.parametrize("depth", range(6))
def test_modes_and_gradients_follow_the_depth(depth: int) -> None:
    model = trained_looking("resnet18")
    split(model, 5)  # an earlier, deeper split is undone by a later one
    model.train()
    trunk, suffix = split(model, depth)
    suffix.train()
    if trunk is not None:
        trunk.train()
        assert not any(part.training for part in trunk.modules())
        assert not any(parameter.requires_grad for parameter in trunk.parameters())
        assert not trunk(images()).requires_grad
    assert all(parameter.requires_grad for parameter in suffix.parameters())
    for name, part in model.named_modules():
        if name:
            assert part.training == (stage_of(name) not in frozen_stages(depth)), name
    own = dict(model.named_parameters())
    for name, parameter in suffix.named_parameters():
        assert parameter is own[name]
    assert {name for name, value in own.items() if value.requires_grad} == dict(suffix.named_parameters()).keys()


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_a_trunk_output_can_be_saved_for_backward_and_kept(depth: int) -> None:
    trunk, suffix = split(trained_looking("resnet18"), depth)
    assert trunk is not None
    features = trunk(images())
    assert not features.is_inference()
    for _ in range(2):  # a stored feature serves more than one step
        suffix.train()(features).sum().backward()
    assert all(parameter.grad is not None for parameter in suffix.parameters())


@pytest.mark.parametrize("depth", [2, 5])
def test_bf16_autocast_runs_through_both_parts(depth: int) -> None:
    model = trained_looking("resnet18")
    trunk, suffix = split(model, depth)
    assert trunk is not None
    suffix.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = trunk(images())
        logits = suffix(features, torch.ones(2, 512))
    assert features.dtype == torch.bfloat16
    logits.float().sum().backward()
    gradients = [parameter.grad for parameter in suffix.parameters()]
    assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients)
    # The training pass has moved the suffix's running statistics, so the model is asked now.
    with torch.no_grad():
        expected = model.eval()(images())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = suffix.eval()(trunk(images())).float()
    assert (got - expected).abs().max() / expected.abs().max() < 0.05


def test_channels_last_stays() -> None:
    trunk, _ = split(trained_looking("resnet50"), 3)
    assert trunk is not None
    assert trunk(images()).is_contiguous(memory_format=torch.channels_last)


def test_depth_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="freeze_depth=6"):
        split(build_model(Structure("resnet18"), 2, 0.0, seed=0), 6)
