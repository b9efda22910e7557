"""The classifier: a torchvision ResNet's stages and a dropout-and-linear head."""

from typing import cast

import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from resnet_dist.model.resize import resize
from resnet_dist.model.squeeze_excite import SqueezeExcite, SqueezeExciteBasicBlock, SqueezeExciteBottleneck
from resnet_dist.model.structure import Structure

STAGES: tuple[str, ...] = ("stem", "layer1", "layer2", "layer3", "layer4", "head")


class ResNetClassifier(nn.Module):
    """Parameters and buffers are named as torchvision names them, so its weights load as they are; gates add `se`.

    Its children stand in the order in which they are computed; `resnet_dist.model.trunk` relies on it.
    """

    def __init__(self, structure: Structure, num_classes: int, dropout: float) -> None:
        super().__init__()
        # On the meta device: torchvision would draw its initial weights from the global generator.
        with torch.device("meta"):
            network = cast(
                "ResNet", torchvision.models.get_model(structure.arch, weights=None, num_classes=num_classes)
            )
            if structure.squeeze_excite:
                network = _with_gates(network)
            if structure.widths is not None:
                resize(network, structure.widths)
        network = network.to_empty(device="cpu")
        self.structure = structure
        self.dropout = dropout
        self.conv1 = network.conv1
        self.bn1 = network.bn1
        self.relu = network.relu
        self.maxpool = network.maxpool
        self.layer1 = network.layer1
        self.layer2 = network.layer2
        self.layer3 = network.layer3
        self.layer4 = network.layer4
        self.fc = network.fc

    def forward(self, images: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Logits [B, classes] of images float32 [B, 3, height, width]; `keep` as in `classify`."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        return classify(self.fc, pool(features), keep)


def pool(features: torch.Tensor) -> torch.Tensor:
    """[B, C, h, w] -> [B, C]. A mean exports to every format; adaptive pooling does not."""
    return features.mean((2, 3))


def classify(fc: nn.Module, pooled: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
    """Logits [B, classes] of pooled features [B, C]. `keep`: float32 [B, C], dropout's mask of 0 and 1 / (1 - p)."""
    return fc(pooled if keep is None else pooled * keep)


def build_model(structure: Structure, num_classes: int, dropout: float, seed: int) -> ResNetClassifier:
    """A network in training mode whose first weights are a function of the seed; no global generator is used.

    With squeeze-excite each block has a gate that starts as the identity; all other weights are as without.
    """
    model = ResNetClassifier(structure, num_classes, dropout)
    _initialize_from_seed(model, seed)
    return model


def _with_gates(plain: ResNet) -> ResNet:
    """An uninitialised network of the same architecture with a gate in each block."""
    stages = (plain.layer1, plain.layer2, plain.layer3, plain.layer4)
    gated: dict[type[nn.Module], type[BasicBlock | Bottleneck]] = {
        BasicBlock: SqueezeExciteBasicBlock,
        Bottleneck: SqueezeExciteBottleneck,
    }
    return ResNet(
        gated[type(stages[0][0])],
        [len(stage) for stage in stages],
        plain.fc.out_features,
        groups=plain.groups,
        width_per_group=plain.base_width,
    )


def _initialize_from_seed(model: ResNetClassifier, seed: int) -> None:
    """torchvision's initialisation of ResNets (models/resnet.py), drawn from a generator of its own."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    bound = model.fc.in_features**-0.5
    nn.init.uniform_(model.fc.weight, -bound, bound, generator=generator)
    nn.init.uniform_(model.fc.bias, -bound, bound, generator=generator)
    # Last, so that gates change no other first weight.
    for part in model.modules():
        if isinstance(part, SqueezeExcite):
            part.initialize(generator)
