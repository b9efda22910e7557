from typing import get_args

import pytest
import torch
import torchvision

from resnet_dist.model.architectures import Arch
from resnet_dist.model.layers import stage_parameters
from resnet_dist.model.resnet import _with_gates
from resnet_dist.model.structure import Structure


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
