"""A ResNet that computes with values in 8 bits, as its files will: rounded in floating point, so that it can learn.

Parameters and buffers keep their names, so that weights of the plain network load as they are, and a checkpoint is one
of the plain network. BatchNorm is part of the convolution before it, as in files: its statistics stay as they are, and
its scale and shift are trained. Each tensor that has a quantiser of its own in a file
(`resnet_dist.export.int8.placement`) has one here.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.squeeze_excite import SqueezeExcite
from resnet_dist.quantisation.dialect import Range
from resnet_dist.quantisation.fake_quantisers import FakeQuantiser, fake_quantised_weights, watching

_UNSET = Range(-8.0, 8.0)
"""Until ranges are set: about what normalised images and features lie in."""
_DOWNSAMPLE = "downsample.0"


class FoldedNorm(nn.Module):
    """Where a BatchNorm was: its numbers, which the convolution before it uses, and the quantiser of the result."""

    def __init__(self, norm: nn.BatchNorm2d, *, before_relu: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        for name, value in norm.named_buffers():
            self.register_buffer(name, value)
        self.quantiser = FakeQuantiser(_UNSET, before_relu=before_relu)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """float32 of the same shape."""
        return self.quantiser(features)


class QuantisedConvolution(nn.Conv2d):
    """A convolution and the BatchNorm behind it, as one with weights in 8 bits."""

    def __init__(self, plain: nn.Conv2d, norm: FoldedNorm) -> None:
        shape: Any = (plain.kernel_size, plain.stride, plain.padding, plain.dilation, plain.groups)
        super().__init__(plain.in_channels, plain.out_channels, *shape, bias=False, device="meta")
        self.weight = plain.weight
        self._norm = (norm,)  # in a tuple, which gives it no second name
        self.input_quantiser: FakeQuantiser | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - nn.Conv2d's name
        """[B, C, h, w] -> [B, C', h', w'], the result of the BatchNorm."""
        [norm] = self._norm
        mean, variance = cast("torch.Tensor", norm.running_mean), cast("torch.Tensor", norm.running_var)
        # In the order of torch.nn.utils.fuse_conv_bn_weights, so that files have the very same weights.
        root = torch.rsqrt(variance + norm.eps)
        weights = self.weight * (norm.weight * root).reshape(-1, 1, 1, 1)
        bias = (0.0 - mean) * root * norm.weight + norm.bias
        rounded = input if self.input_quantiser is None else self.input_quantiser(input)
        return self._conv_forward(rounded, fake_quantised_weights(weights), bias)


class QuantisedLinear(nn.Linear):
    """A linear layer whose input and weights are in 8 bits."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self.quantiser = FakeQuantiser(_UNSET)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - nn.Linear's name
        """[B, inputs] -> [B, outputs]."""
        return functional.linear(self.quantiser(input), fake_quantised_weights(self.weight), self.bias)


class QuantisedSqueezeExcite(SqueezeExcite):
    """A gate whose layers, factors and products are in 8 bits."""

    def __init__(self, plain: SqueezeExcite) -> None:
        nn.Module.__init__(self)
        self.reduce, self.expand = QuantisedLinear(plain.reduce), QuantisedLinear(plain.expand)
        self.gate_quantiser, self.quantiser = FakeQuantiser(_UNSET), FakeQuantiser(_UNSET)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        hidden = torch.relu(self.reduce(features.mean((2, 3))))
        gate = self.gate_quantiser(2.0 * torch.sigmoid(self.expand(hidden)))
        return self.quantiser(features * gate[:, :, None, None])


def quantise(model: ResNetClassifier, ranges: Mapping[str, Range] | None = None) -> None:
    """Have `model` compute in 8 bits from now on, in place, by `ranges` where they are given.

    Raises ValueError for ranges of other tensors, and for a network that does so already.
    """
    if is_quantised(model):
        raise ValueError("the network computes in 8 bits already")
    model.conv1, model.bn1 = _folded(model.conv1, model.bn1, before_relu=True)
    model.conv1.input_quantiser = FakeQuantiser(_UNSET)
    for _, block in _blocks(model):
        pairs = _pairs(block)
        last = max(first for first, _ in pairs if "." not in first)
        for first, norm in pairs:
            before_relu = first not in (last, _DOWNSAMPLE)
            pair = _folded(block.get_submodule(first), block.get_submodule(norm), before_relu=before_relu)
            for name, made in zip((first, norm), pair, strict=True):
                owner, _, own_name = name.rpartition(".")
                setattr(block.get_submodule(owner), own_name, made)
        if isinstance(gate := getattr(block, "se", None), SqueezeExcite):
            block.se = QuantisedSqueezeExcite(gate)
        block.quantiser = FakeQuantiser(_UNSET)
        block.register_forward_hook(_rounded)
    model.fc = QuantisedLinear(model.fc)
    if ranges is not None:
        set_ranges(model, ranges)


def is_quantised(model: ResNetClassifier) -> bool:
    """Whether a network computes in 8 bits."""
    return isinstance(model.conv1, QuantisedConvolution)


def quantisers(model: ResNetClassifier) -> dict[str, FakeQuantiser]:
    """The quantisers of a network by the layer or block whose result they round, in the order of computation.

    Of linear layers, of gates and of the images it is what goes in, or "gate".
    """
    found = {"images": cast("QuantisedConvolution", model.conv1).input_quantiser, "conv1": _of(model.bn1)}
    for name, block in _blocks(model):
        results = {first: _of(block.get_submodule(norm)) for first, norm in _pairs(block)}
        shortcut = results.pop(_DOWNSAMPLE, None)
        found |= {f"{name}.{first}": each for first, each in results.items()}
        if isinstance(gate := getattr(block, "se", None), QuantisedSqueezeExcite):
            found |= {f"{name}.se.reduce": _of(gate.reduce), f"{name}.se.expand": _of(gate.expand)}
            found |= {f"{name}.se.gate": gate.gate_quantiser, f"{name}.se": gate.quantiser}
        found |= {} if shortcut is None else {f"{name}.{_DOWNSAMPLE}": shortcut}
        found[name] = _of(block)
    return {**cast("dict[str, FakeQuantiser]", found), "fc": _of(model.fc)}


def ranges_of(model: ResNetClassifier) -> dict[str, Range]:
    """By the names and in the order of `quantisers`; none of a network in floating point."""
    return {} if not is_quantised(model) else {name: each.values for name, each in quantisers(model).items()}


def set_ranges(model: ResNetClassifier, ranges: Mapping[str, Range]) -> None:
    """Raises ValueError for ranges of other tensors."""
    own = quantisers(model)
    if own.keys() != ranges.keys():
        raise ValueError(
            f"there are ranges of other tensors than the network has: {sorted(own.keys() ^ ranges.keys())[:3]}"
        )
    for name, each in own.items():
        each.values = ranges[name]


@torch.no_grad()
def calibrate(model: ResNetClassifier, batches: Iterable[torch.Tensor]) -> None:
    """Set the ranges to the extremes of unrounded values on batches float32 [N, 3, height, width], normalised.

    Raises RunError where there is no batch, or a value that is not finite.
    """
    device = model.fc.weight.device
    with watching(quantisers(model).values()):
        for batch in batches:
            model(batch.to(device=device, memory_format=torch.channels_last))


def _folded(convolution: nn.Module, norm: nn.Module, *, before_relu: bool) -> tuple[Any, Any]:
    made = FoldedNorm(cast("nn.BatchNorm2d", norm), before_relu=before_relu)
    return QuantisedConvolution(cast("nn.Conv2d", convolution), made), made


def _blocks(model: ResNetClassifier) -> list[tuple[str, Any]]:
    stages = ("layer1", "layer2", "layer3", "layer4")
    return [(f"{stage}.{name}", block) for stage in stages for name, block in getattr(model, stage).named_children()]


def _pairs(block: nn.Module) -> list[tuple[str, str]]:
    """Names of a block's convolutions and of the BatchNorm behind each, in the order of computation."""
    own = [(f"conv{place}", f"bn{place}") for place in (1, 2, 3) if hasattr(block, f"conv{place}")]
    return own + ([(_DOWNSAMPLE, "downsample.1")] if getattr(block, "downsample", None) is not None else [])


def _of(module: nn.Module) -> FakeQuantiser:
    return cast("FakeQuantiser", module.quantiser)


def _rounded(block: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
    return _of(block)(output)
