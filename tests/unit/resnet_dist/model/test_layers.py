"""The list of layers against the networks that it describes."""

from typing import get_args

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_dist.model.architectures import ARCHS, Arch
from resnet_dist.model.freezing import _multiplications, stage_sizes
from resnet_dist.model.layers import layers, stage_parameters
from resnet_dist.model.resnet import ResNetClassifier, _with_gates
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from tests.laws import examples
from tests.small_networks import random_widths


@pytest.mark.parametrize("squeeze_excite", [False, True])
@pytest.mark.parametrize("arch", get_args(Arch))
def test_the_formula_counts_what_the_network_has(arch: Arch, squeeze_excite: bool):
    with torch.device("meta"):
        network = torchvision.models.get_model(arch, weights=None, num_classes=7)
        network = _with_gates(network) if squeeze_excite else network
    found = dict.fromkeys(("stem", "layer1", "layer2", "layer3", "layer4", "head"), 0)
    for name, parameter in network.named_parameters():
        first = name.partition(".")[0]
        found["head" if first == "fc" else first if first.startswith("layer") else "stem"] += parameter.numel()
    assert stage_parameters(Structure(arch, squeeze_excite), 7) == found


@settings(max_examples=examples(0.3))
@given(
    data=st.data(),
    arch=st.sampled_from(ARCHS),
    squeeze_excite=st.booleans(),
    size=st.tuples(st.integers(32, 100), st.integers(32, 100)),
)
def test_parameters_and_multiplications_of_any_widths(
    data: st.DataObject, arch: Arch, squeeze_excite: bool, size: tuple[int, int]
):
    structure = Structure(arch, squeeze_excite, data.draw(st.none() | random_widths(arch)))
    model = ResNetClassifier(structure, 7, 0.0)
    assert stage_parameters(structure, 7) == {row.stage: row.parameters for row in stage_sizes(model, 0)}
    # Those of a forward pass on two images.
    assert 2 * sum(layer.macs for layer in layers(structure, 7, size)) == _multiplications(model, set(), *size)


def test_known_counts():
    assert round(sum(layer.macs for layer in layers(Structure("resnet50"), 1000)) / 1e9, 2) == 4.09
    assert sum(stage_parameters(Structure("resnet50"), 1000).values()) == 25_557_032
    half = Structure("resnet18", widths=Widths.of("resnet18", 0.5))
    assert sum(layer.macs for layer in layers(half, 10)) < 0.3 * sum(
        layer.macs for layer in layers(Structure("resnet18"), 10)
    )
