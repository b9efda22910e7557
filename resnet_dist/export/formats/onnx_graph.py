"""ONNX by torch's exporter: dynamic batch, no trace of the machine that wrote it; a resize in front on request."""

# onnx carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from resnet_dist.export.formats.inference_module import InferenceModule, example
from resnet_dist.runtime.model_contract import INPUT, MOST_IMAGES, OUTPUT
from resnet_dist.runtime.preprocess import Preprocess

_RESIZED = "resized"


CLASSES = "classes"
"""The key of the file's metadata that has the classes' names, as a JSON list in the order of the logits."""


def write_onnx(
    network: InferenceModule, preprocess: Preprocess, path: Path, opset: int, classes: Sequence[str] = ()
) -> None:
    """images uint8 ["batch", height, width, 3] -> logits float32 ["batch", classes].

    The file's metadata has the names of `classes`, for programs that get the file without its bundle.
    """
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations between torch, onnxscript and onnx
        program: Any = torch.onnx.export(
            network,
            (example(preprocess),),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: batch},),
            opset_version=opset,
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    _forget_its_origin(model)
    if classes:
        helper.set_model_props(model, {CLASSES: json.dumps(list(classes), ensure_ascii=False)})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def write_onnx_resize(plain: Path, preprocess: Preprocess, path: Path) -> None:
    """The graph of `plain` with the evaluation's resize in front: images uint8 ["batch", "height", "width", 3].

    Antialiased bilinear, rounded to whole levels, as Pillow does it to within a level: for mode "whole" alone.
    """
    model = onnx.load(plain)
    graph = model.graph
    for node in graph.node:
        node.input[:] = [_RESIZED if name == INPUT else name for name in node.input]
    high, wide = preprocess.input_size
    constants = {
        "resize_spatial": np.array([high, wide], dtype=np.int64),
        "resize_low": np.array(0.0, dtype=np.float32),
        "resize_high": np.array(255.0, dtype=np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    front = [
        helper.make_node("Cast", [INPUT], ["resize_floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["resize_floats"], ["resize_planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "Resize",
            ["resize_planes", "", "", "resize_spatial"],
            ["resize_resized"],
            mode="linear",
            antialias=1,
            axes=[2, 3],
            coordinate_transformation_mode="half_pixel",
        ),
        helper.make_node("Round", ["resize_resized"], ["resize_rounded"]),
        helper.make_node("Clip", ["resize_rounded", "resize_low", "resize_high"], ["resize_clipped"]),
        helper.make_node("Transpose", ["resize_clipped"], [_RESIZED], perm=[0, 2, 3, 1]),
    ]
    for place, node in enumerate(front):
        node.name = f"resize_{place}"
        graph.node.insert(place, node)
    shape = graph.input[0].type.tensor_type.shape
    shape.dim[1].dim_param, shape.dim[2].dim_param = "height", "width"
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def operators(path: Path) -> set[str]:
    """Names of the operators in a graph."""
    return {node.op_type for node in onnx.load(path).graph.node}


def _forget_its_origin(model: onnx.ModelProto) -> None:
    """The exporter writes source paths and stack traces into metadata."""
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    for each in (
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
        *model.graph.initializer,
    ):
        each.doc_string = ""
        del each.metadata_props[:]
    del model.graph.metadata_props[:]
