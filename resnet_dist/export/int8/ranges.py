"""The values that tensors of a graph take on images: ONNX Runtime answers them, and only extremes leave it."""

# onnx and onnxruntime carry few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from resnet_dist.quantisation.dialect import Range
from resnet_dist.runtime.engines import usable_cores
from resnet_dist.runtime.loaded_model import onnx_session
from resnet_dist.runtime.model_contract import INPUT


def ranges_on(model: onnx.ModelProto, tensors: Sequence[str], images: Sequence[NDArray[np.uint8]]) -> dict[str, Range]:
    """The range of each tensor over batches uint8 [N, height, width, 3]. Raises ValueError for no batch at all, and for
    values that are not finite."""
    for each in model.graph.initializer:  # a runtime's minimum may pass over what is not a number
        if each.data_type == TensorProto.FLOAT and not np.isfinite(numpy_helper.to_array(each)).all():
            raise ValueError(f"{each.name} has values that are not finite; train the run again")
    watching = onnx.ModelProto()
    watching.CopyFrom(model)
    outputs = [f"{kind}:{name}" for name in tensors for kind in ("ReduceMin", "ReduceMax")]
    for output in outputs:
        kind, _, name = output.partition(":")
        watching.graph.node.append(helper.make_node(kind, [name], [output], keepdims=0))
        watching.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    session, options = onnx_session(watching.SerializeToString(), usable_cores())
    lows, highs = np.full(len(tensors), np.inf), np.full(len(tensors), -np.inf)
    for batch in images:
        values = np.array(session.run(outputs, {INPUT: batch}, options), dtype=np.float64).reshape(-1, 2)
        lows, highs = np.minimum(lows, values[:, 0]), np.maximum(highs, values[:, 1])
    if not images:
        raise ValueError("there is no image to take value ranges from; raise export.calibration_images")
    if not np.isfinite([lows, highs]).all():
        name = tensors[int(np.argmin(np.isfinite(lows) & np.isfinite(highs)))]
        raise ValueError(f"{name} has values that are not finite; train the run again")
    return {name: Range(float(low), float(high)) for name, low, high in zip(tensors, lows, highs, strict=True)}
