"""The two parts of a network at a freeze depth: trunk(images) once, then suffix(features) with gradients."""

import copy
from collections.abc import Iterator
from typing import Self

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resnet_dist.model.resnet import ResNetClassifier, classify, pool


class Trunk(nn.Module):
    """The frozen prefix: a copy in evaluation mode, without autograd, its BatchNorm folded into the convolutions.

    Being a copy, it leaves the network's own parameters and buffers as they are, to the bit.
    """

    def __init__(self, stages: list[nn.Module], pooled: bool) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(folded(stage) for stage in stages))
        self._pooled = pooled

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [B, C, h, w] of images [B, 3, height, width]; [B, C] where the trunk ends with pooling."""
        features = self.stages(images)
        return pool(features) if self._pooled else features

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 - a trunk is never trained
        """Stays in evaluation mode."""
        return super().train(False)


class Suffix(nn.Module):
    """The stages that are trained and the head: the network's own modules, not copies."""

    def __init__(self, stages: list[nn.Module], fc: nn.Linear, pooled: bool) -> None:
        super().__init__()
        self.stages = nn.Sequential(*stages)
        self.fc = fc
        self._pooled = pooled

    def forward(self, features: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Logits [B, classes]. `keep`: float32 [B, features], dropout's mask."""
        features = self.stages(features)
        return classify(self.fc, features if self._pooled else pool(features), keep)


def split(model: ResNetClassifier, freeze_depth: int) -> tuple[Trunk | None, Suffix]:
    """Trunk and suffix of a model at a freeze depth 0..5; suffix(trunk(x)) is model(x) in evaluation mode.

    Only the suffix's parameters require gradients afterwards. The trunk is None at depth 0.
    """
    stages = model.stages()
    frozen, trained = stages[:freeze_depth], stages[freeze_depth:]
    for stage in frozen:
        stage.requires_grad_(False)
        stage.eval()
    trunk = Trunk(frozen, pooled=not trained) if frozen else None
    if trunk is not None:
        trunk.requires_grad_(False)
        trunk.eval()
    return trunk, Suffix(trained, model.fc, pooled=not trained)


def folded(stage: nn.Module) -> nn.Module:
    """A copy of a stage in evaluation mode with each BatchNorm folded into the convolution before it.

    Within every torchvision ResNet block a BatchNorm follows its convolution as the next child, which is the order
    of their names (conv1, bn1, conv2, bn2, ...; downsample.0, downsample.1).
    """
    copied = copy.deepcopy(stage).eval()
    for parent in list(copied.modules()):
        for (conv_name, conv), (norm_name, norm) in _adjacent(parent):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return copied.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _adjacent(parent: nn.Module) -> Iterator[tuple[tuple[str, nn.Module], tuple[str, nn.Module]]]:
    children = list(parent.named_children())
    return zip(children[:-1], children[1:], strict=True)
