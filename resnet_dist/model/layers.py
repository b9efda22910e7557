"""The layers of a network as numbers: what its size and its arithmetic follow from. Torch-free."""

from collections.abc import Iterator
from dataclasses import dataclass

from resnet_dist.model.architectures import SHAPES
from resnet_dist.model.config import FREEZABLE
from resnet_dist.model.structure import Structure

GATE_REDUCTION, LEAST_HIDDEN = 16, 8
"""Of the gates: channels per hidden unit, as in arXiv:1709.01507, and the fewest hidden units."""


@dataclass(frozen=True)
class Layer:
    """A convolution with its BatchNorm, or a linear layer, which is one of a single pixel."""

    name: str
    """As torchvision names it: layer1.0.conv2."""
    stage: str
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    size: tuple[int, int] = (1, 1)
    """Height and width of its output."""
    is_linear: bool = False

    @property
    def parameters(self) -> int:
        """Weights, and two numbers an output of the BatchNorm, or one of a linear layer's bias."""
        weights = self.inputs * self.outputs * self.kernel**2 // self.groups
        return weights + self.outputs * (1 if self.is_linear else 2)

    @property
    def macs(self) -> int:
        """Multiplications of one image, the BatchNorm folded."""
        height, width = self.size
        return self.inputs * self.outputs * self.kernel**2 // self.groups * height * width


def hidden_units(channels: int) -> int:
    """Of the gate over so many channels."""
    return max(LEAST_HIDDEN, channels // GATE_REDUCTION)


def layers(structure: Structure, classes: int, size: tuple[int, int] = (224, 224)) -> Iterator[Layer]:
    """From the stem to the head, for images of `size` (height, width)."""
    shape, widths = SHAPES[structure.arch], structure.layer_widths
    size = _halved(size)
    yield Layer("conv1", "stem", 3, widths.stem, 7, 2, size=size)
    size = _halved(size)  # max pooling
    channels = widths.stem
    for place, (stage, own) in enumerate(zip(FREEZABLE[1:], widths.stages, strict=True)):
        for number, inner in own.kept:
            name, stride = f"{stage}.{number}", 2 if number == 0 and place > 0 else 1
            before, size = size, _halved(size) if stride == 2 else size
            if len(inner) == 1:
                yield Layer(f"{name}.conv1", stage, channels, inner[0], 3, stride, size=size)
                yield Layer(f"{name}.conv2", stage, inner[0], own.channels, 3, size=size)
            else:
                yield Layer(f"{name}.conv1", stage, channels, inner[0], size=before)
                yield Layer(f"{name}.conv2", stage, inner[0], inner[1], 3, stride, shape.groups, size)
                yield Layer(f"{name}.conv3", stage, inner[1], own.channels, size=size)
            if not shape.is_identity(place, number):
                yield Layer(f"{name}.downsample", stage, channels, own.channels, stride=stride, size=size)
            if structure.squeeze_excite:
                hidden = hidden_units(own.channels)
                yield Layer(f"{name}.se.reduce", stage, own.channels, hidden, is_linear=True)
                yield Layer(f"{name}.se.expand", stage, hidden, own.channels, is_linear=True)
            channels = own.channels
    yield Layer("fc", "head", channels, classes, is_linear=True)


def stage_parameters(structure: Structure, classes: int) -> dict[str, int]:
    """Parameters of each stage, from the stem to the head."""
    counts = dict.fromkeys((*FREEZABLE, "head"), 0)
    for layer in layers(structure, classes):
        counts[layer.stage] += layer.parameters
    return counts


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    """By a stride of 2 with padding."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2
