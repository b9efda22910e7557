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


@dataclass(frozen=True)
class Site:
    """A block's place in a network, and what it connects."""

    stage: int
    """0..3: layer1 .. layer4."""
    number: int
    inputs: int
    """Channels."""
    outputs: int
    size: tuple[int, int]
    """Height and width of what goes in."""

    @property
    def name(self) -> str:
        """As torchvision names it: layer1.0."""
        return f"{FREEZABLE[1 + self.stage]}.{self.number}"

    @property
    def stride(self) -> int:
        """2 where it halves height and width."""
        return 2 if self.number == 0 and self.stage > 0 else 1

    @property
    def size_out(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        return _halved(self.size) if self.stride == 2 else self.size


def sites(structure: Structure, size: tuple[int, int] = (224, 224)) -> Iterator[tuple[Site, tuple[int, ...]]]:
    """Each block that is there with its inner widths, for images of `size` (height, width)."""
    widths = structure.layer_widths
    channels, size = widths.stem, _halved(_halved(size))  # the stem's convolution, and max pooling
    for stage, own in enumerate(widths.stages):
        for number, inner in own.kept:
            site = Site(stage, number, channels, own.channels, size)
            yield site, inner
            channels, size = own.channels, site.size_out


def block_layers(structure: Structure, site: Site, inner: tuple[int, ...]) -> Iterator[Layer]:
    """Of the block that has a place in `structure` and these inner widths, whatever the structure has there."""
    shape, name, stage, size = SHAPES[structure.arch], site.name, FREEZABLE[1 + site.stage], site.size_out
    if len(inner) == 1:
        yield Layer(f"{name}.conv1", stage, site.inputs, inner[0], 3, site.stride, size=size)
        yield Layer(f"{name}.conv2", stage, inner[0], site.outputs, 3, size=size)
    else:
        yield Layer(f"{name}.conv1", stage, site.inputs, inner[0], size=site.size)
        yield Layer(f"{name}.conv2", stage, inner[0], inner[1], 3, site.stride, shape.groups, size)
        yield Layer(f"{name}.conv3", stage, inner[1], site.outputs, size=size)
    if not shape.is_identity(site.stage, site.number):
        yield Layer(f"{name}.downsample", stage, site.inputs, site.outputs, stride=site.stride, size=size)
    if structure.squeeze_excite:
        hidden = hidden_units(site.outputs)
        yield Layer(f"{name}.se.reduce", stage, site.outputs, hidden, is_linear=True)
        yield Layer(f"{name}.se.expand", stage, hidden, site.outputs, is_linear=True)


def end_layers(stem: int, last: int, classes: int, size: tuple[int, int] = (224, 224)) -> tuple[Layer, Layer]:
    """The stem's convolution, of `stem` channels, and the head, behind `last` channels."""
    convolution = Layer("conv1", "stem", 3, stem, 7, 2, size=_halved(size))
    return convolution, Layer("fc", "head", last, classes, is_linear=True)


def layers(structure: Structure, classes: int, size: tuple[int, int] = (224, 224)) -> Iterator[Layer]:
    """From the stem to the head, for images of `size` (height, width)."""
    widths = structure.layer_widths
    stem, head = end_layers(widths.stem, widths.stages[-1].channels, classes, size)
    yield stem
    for site, inner in sites(structure, size):
        yield from block_layers(structure, site, inner)
    yield head


def stage_parameters(structure: Structure, classes: int) -> dict[str, int]:
    """Parameters of each stage, from the stem to the head."""
    counts = dict.fromkeys((*FREEZABLE, "head"), 0)
    for layer in layers(structure, classes):
        counts[layer.stage] += layer.parameters
    return counts


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    """By a stride of 2 with padding."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2
