"""Where 8-bit values stand in a folded graph: which tensors are quantised, and which share a quantiser."""

# onnx carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import onnx

from resnet_dist.quantisation.dialect import Dialect

WEIGHTED = ("Conv", "Gemm")
"""What has weights in 8 bits."""
_TAKES = {"Conv", "Gemm", "Add", "MaxPool"}
"""What takes 8-bit values, in either dialect."""
_ALSO_TAKES = {"ReduceMean", "Mul"}
"""Where each convolution's result is in 8 bits: the gates, and what they scale."""
_GIVES = {"Conv", "Relu", "Add", "Mul", "ReduceMean", "Unsqueeze"}
"""What has a quantiser behind it, where one of those takes its result."""
_KNOWN = {*WEIGHTED, *_GIVES, "MaxPool", "Sigmoid"}


@dataclass(frozen=True)
class Placement:
    """Of quantisers in a graph."""

    activations: tuple[str, ...]
    """Tensors that have one of their own, in the order of the graph."""
    shared: dict[str, str]
    """Tensors with the quantiser of another one: max pooling makes no new values."""
    weighted: tuple[str, ...]
    """Names of the nodes whose weights are quantised."""


def place(model: onnx.ModelProto, dialect: Dialect) -> Placement:
    """Of a network that `write_onnx` wrote. Raises ValueError for an operator that cannot be quantised, by its name."""
    nodes: list[Any] = list(model.graph.node)
    takers = defaultdict[str, list[Any]](list)
    for node in nodes:
        for name in node.input:
            takers[name].append(node)
    first = next((number for number, node in enumerate(nodes) if node.op_type == "Conv"), None)
    if first is None:
        raise ValueError("the graph has no convolution; export the run again")
    takes = _TAKES | (_ALSO_TAKES if dialect.quantises_results else set())
    activations, shared, weighted = [str(nodes[first].input[0])], dict[str, str](), list[str]()
    for node in nodes[first:]:
        if node.op_type not in _KNOWN:
            raise ValueError(f"{node.name} is {node.op_type}, which has no 8-bit form here; take another format")
        result = str(node.output[0])
        if node.op_type in WEIGHTED:
            weighted.append(node.name)
        kinds = {taker.op_type for taker in takers[result]}
        is_fused = node.op_type in ("Conv", "Add") and kinds == {"Relu"}  # the ReLU behind is part of it
        if node.op_type == "MaxPool":
            shared[result] = str(node.input[0])
        elif node.op_type in _GIVES and kinds & takes and not is_fused:
            activations.append(result)
    return Placement(tuple(activations), shared, tuple(weighted))
