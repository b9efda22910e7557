"""Squeeze-and-excitation (Hu et al., arXiv:1709.01507): a gate per channel on the residual branch of each block.

The gate is 2 * sigmoid(...) where the paper has sigmoid(...), and its last layer starts at zero: it is then 1 to the
bit, so a network that gets gates answers exactly as it did without them.
"""

from typing import Any

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from resnet_dist.model.layers import hidden_units


class SqueezeExcite(nn.Module):
    """Scales each channel of each image by a number in 0..2 that depends on the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = hidden_units(channels)
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)

    def initialize(self, generator: torch.Generator) -> None:
        """The identity: `reduce` as torch initialises linear layers, drawn from `generator`; `expand` zero."""
        bound = self.reduce.in_features**-0.5
        nn.init.uniform_(self.reduce.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.reduce.bias, -bound, bound, generator=generator)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        hidden = torch.relu(self.reduce(features.mean((2, 3))))
        gate = 2.0 * torch.sigmoid(self.expand(hidden))
        return features * gate[:, :, None, None]


class _Gated(nn.Module):
    """Of a block that has a gate: what it is made with is torchvision's own, and `expansion` its block's."""

    expansion: int

    def __init__(self, inplanes: int, planes: int, *args: Any, **options: Any) -> None:
        super().__init__(inplanes, planes, *args, **options)
        self.se = SqueezeExcite(planes * self.expansion)


class SqueezeExciteBasicBlock(_Gated, BasicBlock):
    """torchvision's block of ResNet-18 and 34 with a gate before the addition; `se` is its last child."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h', w'], as torchvision's."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.se(self.bn2(self.conv2(out)))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class SqueezeExciteBottleneck(_Gated, Bottleneck):
    """torchvision's block of all deeper networks with a gate before the addition; `se` is its last child."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C', h', w'], as torchvision's."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.se(self.bn3(self.conv3(out)))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)
