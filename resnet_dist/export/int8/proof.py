"""What of an 8-bit file would run in floating point after all, by what runtimes themselves make of it."""

# onnx, onnxruntime and openvino carry few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper

from resnet_dist.export.int8.placement import WEIGHTED
from resnet_dist.runtime.loaded_model import onnx_options, openvino_core

Rules = Literal["x86", "arm"]
_INTEGERS = {"u8", "i8"}


@dataclass(frozen=True)
class Int8Proof:
    """Of a file in one runtime."""

    runtime: str
    convolutions: int
    in_float: tuple[str, ...]
    """Names of convolutions that the runtime computes in floating point."""

    def __str__(self) -> str:
        return f"{len(self.in_float)} of {self.convolutions} convolutions in floating point in {self.runtime}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"runtime": self.runtime, "convolutions": self.convolutions, "in_float": list(self.in_float)}

    def require(self) -> None:
        """Raises ValueError where there is one, or no convolution at all."""
        if self.in_float or not self.convolutions:
            shown = ", ".join(self.in_float[:3]) + (" ..." if len(self.in_float) > 3 else "")
            raise ValueError(
                f"{self.runtime} would compute {len(self.in_float)} of {self.convolutions} convolutions in floating "
                f"point ({shown}): the file would be no faster; export with the versions in the lock file"
            )


def in_onnxruntime(data: bytes, rules: Rules = "x86") -> Int8Proof:
    """By the graph that ONNX Runtime optimises a file to, by its own rules on x86 or by those on ARM."""
    import onnxruntime  # noqa: PLC0415 - only who asks needs it

    with tempfile.TemporaryDirectory(prefix="rd-proof-") as folder:
        optimised = Path(folder) / "model.onnx"
        options = onnx_options(1)
        options.optimized_model_filepath = str(optimised)
        # onnxruntime, onnxruntime_session_options_config_keys.h: int8 activations are fused on ARM alone, unless asked.
        options.add_session_config_entry("session.qdqisint8allowed", "1" if rules == "arm" else "0")
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(optimised, load_external_data=False).graph.node
    found: list[Any] = [node for node in nodes if "Conv" in node.op_type and node.op_type != "QLinearConv"]
    whole = sum(node.op_type == "QLinearConv" for node in nodes)
    return Int8Proof(f"ONNX Runtime by its rules on {rules}", whole + len(found), tuple(node.name for node in found))


def in_openvino(model: Any) -> Int8Proof:
    """By the model that OpenVINO compiles for this processor. `model` is what `read_model` or `convert_model` gave."""
    core = openvino_core()
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = list[tuple[str, str]]()
    for operator in compiled.get_runtime_model().get_ordered_ops():
        facts = operator.get_rt_info()
        if facts["layerType"].astype(str) == "Convolution":
            found.append((str(operator.get_friendly_name()), str(facts["runtimePrecision"].astype(str))))
    return Int8Proof("OpenVINO", len(found), tuple(name for name, kind in found if kind not in _INTEGERS))


def by_structure(model: onnx.ModelProto) -> Int8Proof:
    """By what TensorRT asks of a file: what each convolution and linear layer takes, and both sides of each addition
    behind the first one, comes from int8 with zero point 0. No runtime is asked."""
    made_by = {output: node for node in model.graph.node for output in node.output}
    constants = {each.name: each for each in model.graph.initializer}

    def is_int8(name: str) -> bool:
        node = made_by.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return False
        zero = numpy_helper.to_array(constants[node.input[2]])
        return zero.dtype == np.int8 and not zero.any()

    in_float, convolutions = list[str](), 0
    for node in model.graph.node:
        convolutions += node.op_type == "Conv"
        if (node.op_type in WEIGHTED or (node.op_type == "Add" and convolutions)) and not all(
            is_int8(name) for name in node.input[:2]
        ):
            in_float.append(node.name)
    return Int8Proof("TensorRT", convolutions, tuple(in_float))
