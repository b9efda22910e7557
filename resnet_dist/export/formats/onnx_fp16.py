"""A graph in half precision, whose types say so: TensorRT takes precisions from nothing else since its release 11."""

# onnx carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from resnet_dist.runtime.model_contract import OUTPUT

_HALF = "/half"


def write_onnx_fp16(plain: Path, path: Path) -> None:
    """The graph of `plain`, in fp16 from the first convolution to the logits, which are float32 again.

    Raises ValueError for a weight that is too large for fp16.
    """
    model = onnx.load(plain)
    graph = model.graph
    nodes: list[Any] = list(graph.node)
    first = next(number for number, node in enumerate(nodes) if node.op_type == "Conv")
    images, inner = str(nodes[first].input[0]), nodes[first:]
    taken = {name for node in inner for name in node.input}
    halves = dict[str, str]()
    for each in graph.initializer:
        if each.name in taken and each.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(each)
            if np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
                raise ValueError(f"{each.name} has values that are too large for fp16; take another format")
            halves[each.name] = each.name + _HALF
            graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), each.name + _HALF))
    halves[images] = images + _HALF
    for node in inner:
        node.input[:] = [halves.get(name, name) for name in node.input]
        node.output[:] = [OUTPUT + _HALF if name == OUTPUT else name for name in node.output]
    to_half = helper.make_node("Cast", [images], [images + _HALF], images + _HALF, to=TensorProto.FLOAT16)
    back = helper.make_node("Cast", [OUTPUT + _HALF], [OUTPUT], OUTPUT, to=TensorProto.FLOAT)
    del graph.node[:]
    graph.node.extend([*nodes[:first], to_half, *inner, back])
    used = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
