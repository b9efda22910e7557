"""ONNX graphs of parts of a network and of the whole, to measure how long they take. Torch-free.

Weights are drawn from a seed: how long a convolution takes does not depend on them. BatchNorm is folded, as in an
exported file. Each part stands in a shell, which makes what goes into it of few channels and reduces what comes out to
a mean for each channel: runtimes keep images in a layout of their own between convolutions, and a part without a shell
would mostly measure the change of layout.
"""

# onnx carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_dist.model.layers import Layer, Site, block_layers, end_layers, sites
from resnet_dist.model.structure import Structure
from resnet_dist.runtime.errors import RuntimeMissingError
from resnet_dist.runtime.model_contract import INPUT, OUTPUT

SHELL_CHANNELS = 16
"""Of what goes into a shell."""
_OPSET, _IR_VERSION = 20, 9
_SCALE, _SHIFT = 1 / (255 * 0.225), -0.45 / 0.225


def null_graph() -> bytes:
    """What takes no time but that of the call: float32 [batch, 1, 1, 1] and its mean over the image."""
    graph = _Graph((1, 1, 1))
    return graph.model(graph.pooled(INPUT))


def shell_graph(channels: int, size: tuple[int, int]) -> bytes:
    """A shell around nothing: what goes into a part of so many channels and (height, width)."""
    graph = _Graph((SHELL_CHANNELS, *size))
    return graph.model(graph.pooled(graph.shell(channels, size)))


def block_graph(structure: Structure, site: Site, inner: tuple[int, ...]) -> bytes:
    """A block in a shell: float32 [batch, 16, height, width] -> float32 [batch, outputs]."""
    graph = _Graph((SHELL_CHANNELS, *site.size))
    return graph.model(graph.pooled(graph.block(graph.shell(site.inputs, site.size), structure, site, inner)))


def stem_graph(stem: int, size: tuple[int, int]) -> bytes:
    """From uint8 images [batch, height, width, 3] to behind max pooling, and a mean for each channel."""
    graph = _Graph((*size, 3), is_image=True)
    return graph.model(graph.pooled(graph.stem(INPUT, end_layers(stem, 1, 1, size)[0])))


def head_graph(last: int, classes: int, size: tuple[int, int]) -> bytes:
    """The head in a shell, behind `last` channels of (height, width)."""
    graph = _Graph((SHELL_CHANNELS, *size))
    return graph.model(graph.linear(graph.pooled(graph.shell(last, size)), end_layers(1, last, classes)[1]))


def whole_graph(structure: Structure, classes: int, size: tuple[int, int]) -> bytes:
    """A network: uint8 images [batch, height, width, 3] -> float32 logits [batch, classes], as an export has them."""
    widths = structure.layer_widths
    stem, head = end_layers(widths.stem, widths.stages[-1].channels, classes, size)
    graph = _Graph((*size, 3), is_image=True)
    features = graph.stem(INPUT, stem)
    for site, inner in sites(structure, size):
        features = graph.block(features, structure, site, inner)
    return graph.model(graph.linear(graph.pooled(features), head))


class _Graph:
    """Nodes as they are added; each method takes names of what goes in and gives the name of what comes out."""

    def __init__(self, sides: tuple[int, int, int], *, is_image: bool = False) -> None:
        self._onnx = _load_onnx()
        self._sides, self._is_image = sides, is_image
        self._nodes, self._weights = list[Any](), list[Any]()

    def block(self, features: str, structure: Structure, site: Site, inner: tuple[int, ...]) -> str:
        convolutions, gates, shortcut = list[Layer](), list[Layer](), features
        for layer in block_layers(structure, site, inner):
            if layer.name.endswith("downsample"):
                shortcut = self._convolution(features, layer)
            else:
                (gates if layer.is_linear else convolutions).append(layer)
        branch = features
        for number, layer in enumerate(convolutions, 1):
            branch = self._convolution(branch, layer)
            if number < len(convolutions):
                branch = self._node("Relu", branch)
        if gates:
            branch = self._gated(branch, gates)
        return self._node("Relu", self._node("Add", branch, shortcut))

    def shell(self, channels: int, size: tuple[int, int]) -> str:
        layer = Layer("shell", "shell", SHELL_CHANNELS, channels, size=size)
        return self._node("Relu", self._convolution(INPUT, layer))

    def stem(self, images: str, layer: Layer) -> str:
        floats = self._node("Cast", images, to=self._onnx.TensorProto.FLOAT)
        planes = self._node("Transpose", floats, perm=[0, 3, 1, 2])
        scale, shift = (self._weight(np.full((1, 3, 1, 1), each, dtype=np.float32)) for each in (_SCALE, _SHIFT))
        normal = self._node("Add", self._node("Mul", planes, scale), shift)
        features = self._node("Relu", self._convolution(normal, layer))
        return self._node("MaxPool", features, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)

    def pooled(self, features: str) -> str:
        axes = self._weight(np.array([2, 3], dtype=np.int64))
        return self._node("ReduceMean", features, axes, keepdims=0)

    def linear(self, pooled: str, layer: Layer) -> str:
        return self._node("Gemm", pooled, *self._weights_of(layer, (layer.outputs, layer.inputs)), transB=1)

    def model(self, answer: str) -> bytes:
        """The file of a graph that gives what `answer` names."""
        onnx = self._onnx
        self._nodes.append(onnx.helper.make_node("Identity", [answer], [OUTPUT]))
        kind = onnx.TensorProto.UINT8 if self._is_image else onnx.TensorProto.FLOAT
        images = onnx.helper.make_tensor_value_info(INPUT, kind, ["batch", *self._sides])
        logits = onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["batch", None])
        graph = onnx.helper.make_graph(self._nodes, "part", [images], [logits], self._weights)
        opset = onnx.helper.make_opsetid("", _OPSET)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
        return model.SerializeToString(deterministic=True)

    def _gated(self, features: str, gates: Sequence[Layer]) -> str:
        reduce, expand = gates
        hidden = self._node("Relu", self.linear(self.pooled(features), reduce))
        gate = self._node("Sigmoid", self.linear(hidden, expand))
        axes = self._weight(np.array([2, 3], dtype=np.int64))
        doubled = self._node("Mul", gate, self._weight(np.array(2.0, dtype=np.float32)))
        return self._node("Mul", features, self._node("Unsqueeze", doubled, axes))

    def _convolution(self, features: str, layer: Layer) -> str:
        shape = (layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel)
        return self._node(
            "Conv",
            features,
            *self._weights_of(layer, shape),
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            pads=[layer.kernel // 2] * 4,
            group=layer.groups,
        )

    def _weights_of(self, layer: Layer, shape: tuple[int, ...]) -> tuple[str, str]:
        """Weights and bias, of a spread that keeps what goes through a network near 1: denormals would be slow."""
        spread = np.float32((layer.outputs / np.prod(shape)) ** 0.5)
        weights, bias = (np.resize(_drawn(), each) * spread for each in (shape, layer.outputs))
        return self._weight(weights), self._weight(bias)

    def _weight(self, values: NDArray[Any]) -> str:
        name = f"weight_{len(self._weights)}"
        self._weights.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def _node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name


@cache
def _drawn() -> NDArray[np.float32]:
    """In [-1, 1). Repeated where more are needed: drawing them would take longer than measuring."""
    return np.random.default_rng(0).random(2**20, dtype=np.float32) * 2 - 1


def _load_onnx() -> Any:
    try:
        import onnx  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise RuntimeMissingError(
            "measuring latency needs the package onnx; pip install 'resnet-dist[export]', or take a target of macs"
        ) from error
    return onnx
