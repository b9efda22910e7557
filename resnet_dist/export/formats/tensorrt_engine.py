"""TensorRT engines from ONNX graphs whose own types say the precision: TensorRT 11 knows no other way, and 10 does it
on request. An engine is for one kind of GPU and one version of TensorRT.

TensorRT's wheels cannot be had everywhere: the code below has to be run where they are, and was not run on 11. What
can be checked anywhere is that graphs have no operator that TensorRT's parser does not know, and the right types.
Read: https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration/tensorrt-10x-to-11x-python-api-patterns.html
"""

# tensorrt carries no types.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false, reportMissingTypeStubs=false

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_dist.runtime.engines import Engine
from resnet_dist.runtime.errors import RuntimeMissingError
from resnet_dist.runtime.model_contract import INPUT, OUTPUT

IMAGE = "nvcr.io/nvidia/tensorrt:25.10-py3"
"""NVIDIA's container with TensorRT 10."""

_BATCHES = {"min": 1, "opt": 8, "max": 64}
"""Images that an engine is built for."""

OPERATORS = frozenset(
    {
        *("Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "DequantizeLinear"),
        *("Div", "Flatten", "Gather", "Gemm", "GlobalAveragePool", "HardSigmoid", "Identity", "MatMul", "MaxPool"),
        *("Mul", "Pad", "QuantizeLinear", "ReduceMean", "Relu", "Reshape", "Round", "Shape", "Sigmoid", "Slice"),
        *("Softmax", "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
    }
)
"""Operators of ONNX that TensorRT 10 and 11 take as they are, as far as a ResNet could have them; from onnx-tensorrt,
docs/operators.md. Resize is left out: TensorRT ignores its antialiasing."""


def missing_tensorrt(name: str, height: int, width: int) -> str | None:
    """What TensorRT lacks here, with a command that builds the format elsewhere; None where it lacks nothing."""
    has_package = find_spec("tensorrt") is not None
    if has_package and torch.cuda.is_available():
        return None
    shapes = " ".join(f"--{kind}Shapes={INPUT}:{count}x{height}x{width}x3" for kind, count in _BATCHES.items())
    source, how = ("onnx_tensorrt_int8", "--stronglyTyped") if name == "tensorrt_int8" else ("onnx", "--fp16")
    return (
        f"a TensorRT engine needs {'a GPU' if has_package else 'the package tensorrt'}, which is not here. On one "
        f"with a GPU export in the container {IMAGE}, or build from a bundle with the format {source}: docker run "
        f"--rm --gpus all -v BUNDLE:/bundle {IMAGE} trtexec --onnx=/bundle/{source}/model.onnx {how} {shapes} "
        "--saveEngine=/bundle/model.engine"
    )


def write_tensorrt(name: str, graph: Path, path: Path, height: int, width: int) -> None:
    """Build an engine for batches of 1..64 on this machine's GPU, in the types of a graph: fp16 or int8.

    Raises RuntimeMissingError where TensorRT or a GPU is missing, RuntimeError with TensorRT's words where it fails.
    """
    if reason := missing_tensorrt(name, height, width):
        raise RuntimeMissingError(reason)
    import tensorrt as trt  # noqa: PLC0415

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    # TensorRT 10 takes the graph's types by this flag; 11 always does, and ignores it.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph.read_bytes()):
        raise RuntimeError("; ".join(str(parser.get_error(place)) for place in range(parser.num_errors)))
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *((count, height, width, 3) for count in _BATCHES.values()))
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise RuntimeError("TensorRT built no engine; its log above says why")
    path.write_bytes(bytes(engine))


def load_tensorrt_engine(path: Path) -> Engine:
    """The engine of a file, on this machine's GPU. Raises RuntimeError where it is for another GPU or version."""
    import tensorrt as trt  # noqa: PLC0415

    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise RuntimeError(f"{path} is for another kind of GPU or another TensorRT; export the run on this machine")
    context = engine.create_execution_context()

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = torch.from_numpy(images).cuda()
        context.set_input_shape(INPUT, given.shape)
        logits = torch.empty(tuple(context.get_tensor_shape(OUTPUT)), device="cuda")
        context.set_tensor_address(INPUT, given.data_ptr())
        context.set_tensor_address(OUTPUT, logits.data_ptr())
        stream = torch.cuda.current_stream()
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError(f"{path} failed; TensorRT's log above says why")
        stream.synchronize()
        return logits.cpu().numpy()

    return answer
