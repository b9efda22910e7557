"""The two parts of a network under a freezing policy: trunk(images), then suffix(features) with gradients."""

import copy
import itertools
from collections.abc import Callable, Iterable
from typing import Self, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from resnet_dist.model.freezing import Freezing, frozen_norms, frozen_stages, stage_of, trainable_parameters
from resnet_dist.model.resnet import ResNetClassifier, classify, pool

Network = TypeVar("Network", bound=nn.Module)


class Trunk(nn.Module):
    """The frozen prefix: a copy in evaluation mode, without autograd, its BatchNorm folded into the convolutions.

    Being a copy, it leaves the network's own parameters and buffers as they are, to the bit.
    """

    def __init__(self, stages: list[nn.Module], pooled: bool) -> None:
        super().__init__()
        self.stages = fold_batch_norm(nn.Sequential(*stages)).requires_grad_(False)
        self.pooled = pooled
        """Whether it ends with pooling."""
        self.eval()

    # Not inference_mode: autograd refuses to save its tensors, and the suffix's backward pass needs them.
    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features [B, C, h, w] of images [B, 3, height, width]; [B, C] where the trunk ends with pooling."""
        features = self.stages(images)
        return pool(features) if self.pooled else features

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 - a trunk is never trained
        """Stays in evaluation mode."""
        return super().train(False)

    def extra_repr(self) -> str:
        """What its layers do not tell."""
        return f"pooled={self.pooled}"


class Suffix(nn.Module):
    """The stages that are trained and the head: the network's own modules under their own names, not copies.

    `frozen_norms` are the BatchNorm layers in them that stay in evaluation mode whatever the rest does.
    """

    def __init__(self, stages: dict[str, nn.Module], fc: nn.Module, frozen_norms: Iterable[nn.Module] = ()) -> None:
        super().__init__()
        self.through: Callable[[nn.Module, torch.Tensor], torch.Tensor] = _straight
        """How a stage turns its input into its output."""
        self._stages = tuple(stages)
        self._frozen_norms = tuple(frozen_norms)  # in a tuple, which gives them no second name
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.fc = fc

    def forward(
        self, features: torch.Tensor, keep: torch.Tensor | None = None, *, with_stages: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits [B, classes] of what the trunk gives, or of images where there is none; `keep` as in `classify`.

        `with_stages`: also what each of its stages among layer1 to layer4 gives, [B, C, h, w], by name. They are
        outputs, since hooks would see neither DistributedDataParallel's nor torch.compile's passes as they are.
        """
        outputs: dict[str, torch.Tensor] = {}
        for name in self._stages:
            features = self.through(self.get_submodule(name), features)
            if name.startswith("layer"):
                outputs[name] = features
        logits = classify(self.fc, pool(features) if self._stages else features, keep)
        return (logits, outputs) if with_stages else logits

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode, but for the frozen BatchNorm layers: validation's return cannot thaw them."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self


def _straight(stage: nn.Module, features: torch.Tensor) -> torch.Tensor:
    return stage(features)


def split(model: ResNetClassifier, freezing: Freezing) -> tuple[Trunk | None, Suffix]:
    """Trunk and suffix under policies or at a freeze depth 0..5; suffix(trunk(x)) is model(x) in evaluation mode.

    The trunk is None where no stage is frozen, and pooled where all five are. Exactly `trainable_parameters` require
    gradients afterwards; the model's frozen stages and frozen BatchNorm layers are in evaluation mode. Raises
    ValueError for policies whose frozen stages are no prefix.
    """
    prefix = frozen_stages(freezing)
    frozen, trained = dict[str, nn.Module](), dict[str, nn.Module]()
    for name, module in model.named_children():
        if name != "fc":
            (frozen if stage_of(name) in prefix else trained)[name] = module
    model.requires_grad_(False)
    for parameter in trainable_parameters(model, freezing).values():
        parameter.requires_grad_(True)
    norms = frozen_norms(model, freezing)
    for module in (*frozen.values(), *norms):
        module.eval()
    trunk = Trunk([*frozen.values()], pooled=not trained) if frozen else None
    return trunk, Suffix(trained, model.fc, norms)


def fold_batch_norm(network: Network) -> Network:
    """A channels_last copy in evaluation mode with each BatchNorm folded into the convolution before it.

    In every torchvision ResNet a BatchNorm is the child right after its convolution: conv1, bn1, conv2, bn2, ...,
    downsample.0, downsample.1.
    """
    copied = copy.deepcopy(network).eval()
    for parent in list(copied.modules()):
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return copied.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
