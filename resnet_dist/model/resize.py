"""A ResNet's modules replaced by ones of other widths, and blocks left out."""

from collections import OrderedDict
from typing import cast

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from resnet_dist.model.squeeze_excite import SqueezeExcite
from resnet_dist.model.widths import StageWidths, Widths


def resize(network: ResNet, widths: Widths) -> None:
    """Give `network`, which has no weights yet, these widths, in place. Blocks that stay keep their names."""
    network.conv1, network.bn1 = _convolution(network.conv1, 3, widths.stem), nn.BatchNorm2d(widths.stem)
    channels = widths.stem
    for name, stage in zip(("layer1", "layer2", "layer3", "layer4"), widths.stages, strict=True):
        setattr(network, name, _resized(network.get_submodule(name), channels, stage))
        channels = stage.channels
    network.fc = nn.Linear(channels, network.fc.out_features)


def _resized(stage: nn.Module, channels: int, widths: StageWidths) -> nn.Sequential:
    """The blocks of a stage that stay, the first one with so many input channels."""
    blocks = OrderedDict[str, nn.Module]()
    for number, inner in widths.kept:
        block = cast("BasicBlock | Bottleneck", stage.get_submodule(str(number)))
        outputs = [*inner, widths.channels]
        for place, (before, after) in enumerate(zip([channels, *inner], outputs, strict=True), start=1):
            convolution = cast("nn.Conv2d", block.get_submodule(f"conv{place}"))
            setattr(block, f"conv{place}", _convolution(convolution, before, after))
            setattr(block, f"bn{place}", nn.BatchNorm2d(after))
        if isinstance(block.downsample, nn.Sequential):
            convolution = _convolution(cast("nn.Conv2d", block.downsample[0]), channels, widths.channels)
            block.downsample = nn.Sequential(convolution, nn.BatchNorm2d(widths.channels))
        if hasattr(block, "se"):
            block.se = SqueezeExcite(widths.channels)
        blocks[str(number)] = block
        channels = widths.channels
    return nn.Sequential(blocks)


def _convolution(own: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    """Like `own` but for its channels."""
    return nn.Conv2d(
        inputs,
        outputs,
        own.kernel_size,  # pyright: ignore[reportArgumentType]
        own.stride,  # pyright: ignore[reportArgumentType]
        own.padding,  # pyright: ignore[reportArgumentType]
        groups=own.groups,
        bias=False,
    )
