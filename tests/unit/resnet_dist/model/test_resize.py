"""Networks of other widths: their modules are those that the list of layers says, and they compute."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet_dist.model.architectures import ARCHS, Arch
from resnet_dist.model.layers import layers
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from tests.laws import examples
from tests.small_networks import CLASSES, images, random_widths, trained_looking

ARCH = st.sampled_from(ARCHS)


@settings(max_examples=examples(0.5))
@given(data=st.data(), arch=ARCH, squeeze_excite=st.booleans())
def test_modules_are_those_of_the_list_of_layers(data: st.DataObject, arch: Arch, squeeze_excite: bool) -> None:
    structure = Structure(arch, squeeze_excite, data.draw(random_widths(arch)))
    model = ResNetClassifier(structure, CLASSES, 0.0)
    expected = {
        layer.name: (layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.groups)
        for layer in layers(structure, CLASSES)
    }
    found: dict[str, tuple[int, ...]] = {}
    outputs: dict[str, int] = {}
    for name, part in model.named_modules():
        if isinstance(part, nn.Conv2d):
            assert part.padding == (part.kernel_size[0] // 2,) * 2
            assert part.bias is None
            sizes = part.kernel_size[0], part.stride[0], part.groups
            found[name.removesuffix(".0")] = (part.in_channels, part.out_channels, *sizes)
        elif isinstance(part, nn.BatchNorm2d):
            outputs[name.removesuffix(".1").replace("bn", "conv")] = part.num_features
        elif isinstance(part, nn.Linear):
            found[name] = (part.in_features, part.out_features, 1, 1, 1)
    assert found == expected
    assert outputs == {layer.name: layer.outputs for layer in layers(structure, CLASSES) if not layer.is_linear}


@settings(max_examples=examples(0.3))
@given(data=st.data(), arch=st.sampled_from(["resnet18", "resnet50"]), squeeze_excite=st.booleans())
def test_any_widths_compute_and_train(data: st.DataObject, arch: Arch, squeeze_excite: bool) -> None:
    structure = Structure(arch, squeeze_excite, data.draw(random_widths(arch, Widths.of(arch, 0.25))))
    model = build_model(structure, CLASSES, 0.0, seed=0)
    model(images(4)).sum().backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in model.parameters())
    with torch.no_grad():
        assert torch.isfinite(model.eval()(images(4))).all()


@pytest.mark.parametrize("squeeze_excite", [False, True])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_its_own_widths_give_the_same_network(arch: Arch, squeeze_excite: bool) -> None:
    plain = trained_looking(Structure(arch, squeeze_excite))
    written = ResNetClassifier(Structure(arch, squeeze_excite, Widths.of(arch)), CLASSES, 0.0).eval()
    assert list(written.state_dict()) == list(plain.state_dict())
    written.load_state_dict(plain.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(written(images()), plain(images()))


def test_blocks_that_are_left_out_are_as_if_they_added_nothing() -> None:
    structure = Structure("resnet18", squeeze_excite=True)
    model = trained_looking(structure)
    widths = Widths.of("resnet18")
    widths = widths.with_stage(0, replace(widths.stages[0], blocks=(None, None)))
    widths = widths.with_stage(2, replace(widths.stages[2], blocks=((256,), None)))
    smaller = ResNetClassifier(replace(structure, widths=widths), CLASSES, 0.0).eval()
    assert len(smaller.layer1) == 0
    assert [name for name, _ in smaller.layer3.named_children()] == ["0"]
    smaller.load_state_dict({name: model.state_dict()[name] for name in smaller.state_dict()}, strict=True)
    with torch.no_grad():
        for name in ("layer1.0", "layer1.1", "layer3.1"):
            norm = model.get_submodule(f"{name}.bn2")
            assert isinstance(norm, nn.BatchNorm2d)
            norm.weight.zero_()
            norm.bias.zero_()
        assert torch.equal(smaller(images()), model(images()))


def test_first_weights_are_the_seeds_and_leave_the_global_generator_alone() -> None:
    structure = Structure("resnet18", widths=Widths.of("resnet18", 0.25))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (build_model(structure, CLASSES, 0.0, seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not any(torch.equal(value, other[name]) for name, value in first.items() if value.ndim > 1)
