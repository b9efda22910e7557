"""The two parts of a network at a freeze depth: trunk(images) once, then suffix(features) with gradients."""

import copy
import itertools
from typing import Self

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resnet_dist.model.freezing import frozen_stages, stage_of, trainable_parameters
from resnet_dist.model.resnet import ResNetClassifier, classify, pool


class Trunk(nn.Module):
    """The frozen prefix: a copy in evaluation mode, without autograd, its BatchNorm folded into the convolutions.

    Being a copy, it leaves the network's own parameters and buffers as they are, to the bit.
    """

    def __init__(self, stages: list[nn.Module], pooled: bool) -> None:
        super().__init__()
        self.stages = _folded(nn.Sequential(*stages)).requires_grad_(False)
        self._pooled = pooled
        self.eval()

    # Not inference_mode: autograd refuses to save its tensors, and the suffix's backward pass needs them.
    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [B, C, h, w] of images [B, 3, height, width]; [B, C] where the trunk ends with pooling."""
        features = self.stages(images)
        return pool(features) if self._pooled else features

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 - a trunk is never trained
        """Stays in evaluation mode."""
        return super().train(False)


class Suffix(nn.Module):
    """The stages that are trained and the head: the network's own modules under their own names, not copies."""

    def __init__(self, stages: dict[str, nn.Module], fc: nn.Module) -> None:
        super().__init__()
        self._stages = tuple(stages)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.fc = fc

    def forward(self, features: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Logits [B, classes] of what the trunk gives, or of images where there is none; `keep` as in `classify`."""
        for name in self._stages:
            features = self.get_submodule(name)(features)
        return classify(self.fc, pool(features) if self._stages else features, keep)


def split(model: ResNetClassifier, freeze_depth: int) -> tuple[Trunk | None, Suffix]:
    """Trunk and suffix at a freeze depth 0..5; suffix(trunk(x)) is model(x) in evaluation mode.

    The trunk is None at depth 0. Exactly the suffix's parameters require gradients afterwards, and the model's
    frozen stages are in evaluation mode.
    """
    frozen, trained = dict[str, nn.Module](), dict[str, nn.Module]()
    for name, module in model.named_children():
        if name != "fc":
            (frozen if stage_of(name) in frozen_stages(freeze_depth) else trained)[name] = module
    model.requires_grad_(False)
    for parameter in trainable_parameters(model, freeze_depth).values():
        parameter.requires_grad_(True)
    for module in frozen.values():
        module.eval()
    return Trunk([*frozen.values()], pooled=not trained) if frozen else None, Suffix(trained, model.fc)


def _folded(stages: nn.Sequential) -> nn.Sequential:
    """A channels_last copy in evaluation mode with each BatchNorm folded into the convolution before it.

    In every torchvision ResNet a BatchNorm is the child right after its convolution: conv1, bn1, conv2, bn2, ...,
    downsample.0, downsample.1.
    """
    copied = copy.deepcopy(stages).eval()
    for parent in list(copied.modules()):
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return copied.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
