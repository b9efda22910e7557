"""Which stages are frozen, what that leaves to train, and what it saves."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from resnet_dist.model.config import FREEZABLE, Policies, StagePolicy, depth_policies
from resnet_dist.model.resnet import STAGES, ResNetClassifier

_STEM = ("conv1", "bn1", "relu", "maxpool")

Freezing = Policies | int
"""A policy for each stage of `FREEZABLE`, or a freeze depth 0..5 that stands for as many frozen stages."""


@dataclass(frozen=True)
class StageSize:
    """A row of the table of stages."""

    stage: str
    parameters: int
    trainable: int
    policy: StagePolicy


def stage_of(name: str) -> str:
    """The stage that a parameter, buffer or module of a ResNet belongs to, by its torchvision name."""
    first = name.split(".", 1)[0]
    if first in _STEM:
        return "stem"
    return "head" if first == "fc" else first


def stage_policies(freezing: Freezing) -> dict[str, StagePolicy]:
    """The policy of each stage, the head's included. Raises ValueError unless the frozen stages are a prefix."""
    policies = depth_policies(freezing) if isinstance(freezing, int) else freezing
    if len(policies) != len(FREEZABLE):
        raise ValueError(f"{len(policies)} policies for {len(FREEZABLE)} stages; give one for each of {FREEZABLE}")
    for stage, before, policy in zip(FREEZABLE[1:], policies, policies[1:], strict=False):
        if policy == "frozen" and before != "frozen":
            raise ValueError(f"{stage} is frozen behind a stage that is {before}; frozen stages come first")
    return {**dict(zip(FREEZABLE, policies, strict=True)), "head": "trainable"}


def frozen_stages(freezing: Freezing) -> tuple[str, ...]:
    """The frozen prefix: () where nothing is frozen, all but the head at depth 5."""
    return tuple(stage for stage, policy in stage_policies(freezing).items() if policy == "frozen")


def frozen_norms(model: ResNetClassifier, freezing: Freezing) -> list[nn.Module]:
    """The BatchNorm layers of bn_frozen stages."""
    policies = stage_policies(freezing)
    stages = [module for name, module in model.named_children() if policies[stage_of(name)] == "bn_frozen"]
    return [part for stage in stages for part in stage.modules() if isinstance(part, _BatchNorm)]


def trainable_parameters(model: ResNetClassifier, freezing: Freezing) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name: none of frozen stages, no BatchNorm's of bn_frozen ones."""
    frozen = frozen_stages(freezing)
    kept = {id(parameter) for norm in frozen_norms(model, freezing) for parameter in norm.parameters()}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if stage_of(name) not in frozen and id(parameter) not in kept
    }


def stage_sizes(model: ResNetClassifier, freezing: Freezing) -> list[StageSize]:
    """Parameters of each stage, how many of them are trained, and under which policy."""
    totals, trainable = dict.fromkeys(STAGES, 0), dict.fromkeys(STAGES, 0)
    for name, parameter in model.named_parameters():
        totals[stage_of(name)] += parameter.numel()
    for name, parameter in trainable_parameters(model, freezing).items():
        trainable[stage_of(name)] += parameter.numel()
    policies = stage_policies(freezing)
    return [StageSize(stage, total, trainable[stage], policies[stage]) for stage, total in totals.items()]


def stage_learning_rates(names: Iterable[str], stage_decay: float) -> dict[str, float]:
    """Factor of each parameter's learning rate (arXiv:1801.06146): stage_decay ** its stage's distance from the head.

    The head has distance 0, layer4 1, and so on to the stem's 5.
    """
    distances = {stage: distance for distance, stage in enumerate(reversed(STAGES))}
    return {name: stage_decay ** distances[stage_of(name)] for name in names}


def expected_speed_up(model: ResNetClassifier, freezing: Freezing, height: int, width: int) -> float:
    """How many times faster a training step at height x width should be than one that trains everything.

    The ratio of multiplications in convolutions and linear layers, nothing else: each layer counts once for the
    forward pass, once more where the backward pass needs the gradient of its input, and once more where that of its
    weight. Memory traffic, BatchNorm, the optimizer and the reading of images are left out. No numbers are computed.
    """
    everything = {name for name, _ in model.named_parameters()}
    trained = set(trainable_parameters(model, freezing))
    return _multiplications(model, everything, height, width) / _multiplications(model, trained, height, width)


def _multiplications(model: ResNetClassifier, trained: set[str], height: int, width: int) -> int:
    """Of a training step on two images in which the parameters named `trained` have gradients."""
    counted = 0

    def count(layer: nn.Conv2d | nn.Linear, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal counted
        weight = layer.weight
        # weight[0] is what makes one number of the output, in grouped convolutions too.
        passes = 1 + inputs[0].requires_grad + weight.requires_grad
        counted += passes * output.numel() * weight[0].numel()

    # The meta device has shapes and autograd, but no numbers.
    state = {
        name: torch.empty_like(value, device="meta").requires_grad_(name in trained)
        for name, value in model.state_dict().items()
    }
    layers = [part for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        # Two images, since BatchNorm refuses to train on a single number a channel.
        functional_call(model, state, torch.empty((2, 3, height, width), device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return counted
