"""Writes an ONNX graph in 8-bit integers: QuantizeLinear and DequantizeLinear around what is computed in them.

The numbers come from value ranges of activations, whether images or training gave them, and from the weights
themselves. The same graph and ranges give the same bytes.
"""

# onnx carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from resnet_dist.export.int8.placement import Placement
from resnet_dist.quantisation.dialect import LEAST_SCALE, Dialect, Quantiser, Range, quantised_weights

_MOST_BIAS = 2**30
"""Steps of an int32: what is added to it has room."""


def quantised(
    model: onnx.ModelProto, placement: Placement, ranges: Mapping[str, Range], dialect: Dialect, weight_bits: int = 8
) -> onnx.ModelProto:
    """The graph in 8 bits; `model` stays as it is. Raises KeyError where a placed tensor has no range."""
    return _Writer(model, placement, ranges, dialect, weight_bits).written()


class _Writer:
    def __init__(
        self,
        model: onnx.ModelProto,
        placement: Placement,
        ranges: Mapping[str, Range],
        dialect: Dialect,
        weight_bits: int,
    ) -> None:
        self._made = onnx.ModelProto()
        self._made.CopyFrom(model)
        self._weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        own = {name: dialect.quantiser(ranges[name]) for name in placement.activations}
        self._quantisers = own | {name: own[source] for name, source in placement.shared.items()}
        self._weighted = {*placement.weighted}
        self._dialect, self._bits = dialect, weight_bits
        self._nodes, self._added = list[Any](), list[Any]()

    def written(self) -> onnx.ModelProto:
        graph = self._made.graph
        for node in list(graph.node):
            source = str(node.input[0])
            node.input[:] = [f"{name}/dequantised" if name in self._quantisers else name for name in node.input]
            if node.name in self._weighted and source in self._quantisers:
                self._quantise_weights(node, self._quantisers[source])
            self._nodes.append(node)
            for name in node.output:
                if name in self._quantisers:
                    self._pair(str(name), self._quantisers[name])
        del graph.node[:]
        graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [each for each in (*graph.initializer, *self._added) if each.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        del graph.value_info[:]
        return self._made

    def _pair(self, name: str, quantiser: Quantiser) -> None:
        """Quantise a tensor, and give it back."""
        scale = self._constant(f"{name}/scale", np.array(quantiser.scale, dtype=np.float32))
        zero = self._constant(f"{name}/zero_point", np.array(quantiser.zero_point, dtype=quantiser.kind))
        self._node("QuantizeLinear", [name, scale, zero], f"{name}/quantised")
        self._node("DequantizeLinear", [f"{name}/quantised", scale, zero], f"{name}/dequantised")

    def _quantise_weights(self, node: Any, activations: Quantiser) -> None:
        weights, bias, scale = self._weights[node.input[1]], None, float(activations.scale)
        least = LEAST_SCALE
        if len(node.input) > 2 and self._dialect.has_quantised_bias:
            bias = self._weights[node.input[2]].astype(np.float64)
            # A channel without weights still has its bias, and its step is a number that float32 has.
            least = np.maximum(np.abs(bias) / (scale * _MOST_BIAS), 2 * LEAST_SCALE / scale)
        steps, scales = quantised_weights(weights, self._bits, least)
        self._dequantised(node, 1, steps, scales)
        if bias is not None:
            product = scales * activations.scale  # float32: runtimes want the very product
            self._dequantised(node, 2, np.round(bias / product).astype(np.int32), product)

    def _dequantised(self, node: Any, place: int, steps: NDArray[Any], scales: NDArray[np.float32]) -> None:
        """Put the input of a node in 8 bits, or a bias in 32, with a scale for each output."""
        # By the node: layers with equal values share a tensor, and each has its own steps.
        name = f"{node.name}/{node.input[place]}"
        inputs = [
            self._constant(f"{name}/quantised", steps),
            self._constant(f"{name}/scale", scales),
            self._constant(f"{name}/zero_point", np.zeros(len(scales), dtype=steps.dtype)),
        ]
        node.input[place] = self._node("DequantizeLinear", inputs, f"{name}/dequantised", axis=0)

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self._added.append(numpy_helper.from_array(values, name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output
