"""Models that a bundle must not have, as real ONNX files: each is a small correct one but for what its name says."""

# onnx carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import json
import shutil
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from resnet_dist.runtime.bundle import MANIFEST, seal

Nodes = Sequence[onnx.NodeProto]
BATCH = ("batch", 32, 32, 3)


def model(
    answer: Nodes = (),
    constants: dict[str, np.ndarray] | None = None,
    images: tuple[str, int, tuple[str | int, ...]] = ("images", TensorProto.UINT8, BATCH),
    logits: Sequence[tuple[str, int, tuple[str | int, ...]]] = (("logits", TensorProto.FLOAT, ("batch", 3)),),
) -> onnx.ModelProto:
    """The means of the three colours, "means" [batch, 3], which the nodes `answer` turn into logits, by default as they
    are."""
    first = [
        helper.make_node("Cast", [images[0]], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "sides"], ["means"], keepdims=0),
    ]
    last = answer or [helper.make_node("Identity", ["means"], [name]) for name, _, _ in logits]
    known = {"sides": np.array([1, 2], np.int64), **(constants or {})}
    graph = helper.make_graph(
        [*first, *last],
        "graph",
        [helper.make_tensor_value_info(*images)],
        [helper.make_tensor_value_info(*each) for each in logits],
        [numpy_helper.from_array(value, name) for name, value in known.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def endless() -> onnx.ModelProto:
    """A loop of 2^62 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go on"], ["goes on"]),
            helper.make_node("Neg", ["before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, ["batch", 3]),
        ],
        [
            helper.make_tensor_value_info("goes on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, ["batch", 3]),
        ],
    )
    loop = helper.make_node("Loop", ["rounds", "always", "means"], ["logits"], body=body)
    return model([loop], {"rounds": np.array(2**62), "always": np.array(True)})


def deaf(steps: int) -> onnx.ModelProto:
    """One node that computes for long and cannot be cancelled: an LSTM over so many steps, a microsecond or so each."""
    nodes = [
        helper.make_node("ReduceMean", ["means"], ["mean"], keepdims=1),
        helper.make_node("Expand", ["mean", "shape"], ["sequence"]),
        helper.make_node("LSTM", ["sequence", "in", "again"], ["", "state"], hidden_size=1),
        helper.make_node("Reshape", ["state", "one"], ["scalar"]),
        helper.make_node("Add", ["means", "scalar"], ["logits"]),
    ]
    constants = {
        "shape": np.array([steps, 1, 1], np.int64),
        "in": np.zeros((1, 4, 1), np.float32),
        "again": np.zeros((1, 4, 1), np.float32),
        "one": np.array([1], np.int64),
    }
    return model(nodes, constants)


def not_finite() -> onnx.ModelProto:
    """NaN for images whose red is black, infinity for those whose red is white, else finite."""
    red = helper.make_node("Slice", ["means", "zero", "one", "one"], ["red"])
    rest = helper.make_node("Sub", ["white", "red"], ["rest"])
    ratio = helper.make_node("Div", ["red", "red"], ["ratio"])  # 0 / 0
    inverse = helper.make_node("Div", ["unit", "rest"], ["inverse"])
    both = helper.make_node("Add", ["ratio", "inverse"], ["added"])
    logits = helper.make_node("Add", ["means", "added"], ["logits"])
    constants = {
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "white": np.array(255, np.float32),
        "unit": np.array(1, np.float32),
    }
    return model([red, rest, ratio, inverse, both, logits], constants)


def fewer_rows() -> onnx.ModelProto:
    """Says [batch, 3], and answers the first image alone."""
    return model([helper.make_node("Compress", ["means", "first"], ["logits"], axis=0)], {"first": np.array([True])})


def out_of_bounds() -> onnx.ModelProto:
    """Asks for rows by the values of pixels, of which there are more than rows."""
    nodes = [
        helper.make_node("Add", ["means", "many"], ["values"]),
        helper.make_node("Cast", ["values"], ["rows"], to=TensorProto.INT64),
        helper.make_node("GatherElements", ["means", "rows"], ["logits"], axis=0),
    ]
    return model(nodes, {"many": np.array(2000, np.float32)})


def external(location: str) -> onnx.ModelProto:
    """A weight that lies in another file."""
    made = model([helper.make_node("Add", ["means", "weight"], ["logits"])], {"weight": np.zeros(3, np.float32)})
    set_external(next(each for each in made.graph.initializer if each.name == "weight"), location)
    return made


def set_external(tensor: onnx.TensorProto, location: str) -> None:
    """Let a tensor's values lie elsewhere."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location


def bundle_with(bundle: Path, folder: Path, files: dict[str, bytes], change: Callable[[dict], object] = len) -> Path:
    """A copy of a bundle with other files, sealed by somebody who knows how; `change` edits bundle.json before."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    del manifest["seal"]
    for path, data in files.items():
        (folder / path).write_bytes(data)
        manifest["files"][path] = {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    change(manifest)
    (folder / MANIFEST).write_bytes(seal(manifest))
    return folder
