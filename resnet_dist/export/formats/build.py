"""Which formats there are, what each needs, and how it is built."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, assert_never

from resnet_dist.export.config import FORMATS, ExportConfig, Format
from resnet_dist.export.formats.inference_module import InferenceModule
from resnet_dist.export.int8.calibration import Calibration
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.runtime.bundle import Precision, Runtime
from resnet_dist.runtime.errors import RuntimeMissingError
from resnet_dist.runtime.preprocess import Preprocess

if TYPE_CHECKING:
    from resnet_dist.export.int8.proof import Int8Proof

_ON_REQUEST: tuple[Format, ...] = ("onnx_resize", "onnx_tensorrt_int8", "tensorrt", "tensorrt_int8")

_OPENVINO_PRECISIONS: dict[Format, str] = {"openvino_bf16": "BF16", "openvino_int8": "INT8"}
"""What OpenVINO must compute in, by its own names."""


@dataclass(frozen=True)
class BuiltFormat:
    """A format's files and how they are run."""

    name: Format
    runtime: Runtime
    precision: Precision
    files: tuple[str, ...]
    """Relative to the bundle; the first is loaded."""
    hints: dict[str, str] = field(default_factory=dict[str, str])
    any_size: bool = False
    proofs: tuple["Int8Proof", ...] = ()
    """Of an 8-bit format, by each runtime that it is for."""


def wanted_formats(
    config: ExportConfig, preprocess: Preprocess, *, is_quantised: bool = False
) -> tuple[list[Format], dict[Format, str]]:
    """The formats to build, in order, and why others are not: of a network that computes in 8 bits those in int8.

    Raises RuntimeMissingError for one that was asked for and cannot be built. A job of such a network asks for no
    other.
    """
    chosen: list[Format] = []
    skipped: dict[Format, str] = {}
    usual: tuple[Format, ...] = tuple(
        name for name in FORMATS if name not in _ON_REQUEST and (_is_int8(name) or not is_quantised)
    )
    for name in config.formats or usual:
        reason = missing(name, preprocess)
        is_mixed = name == "openvino_int8" and config.int8_accuracy_drop is not None
        if reason is None and is_mixed and find_spec("nncf") is None:
            reason = "export.int8_accuracy_drop needs the package nncf; pip install 'resnet-dist[export]'"
        if reason is None:
            chosen.append(name)
        elif config.formats:
            raise RuntimeMissingError(f"export.formats={name}: {reason}")
        else:
            skipped[name] = reason
    return chosen, skipped


def missing(name: Format, preprocess: Preprocess) -> str | None:
    """Why a format cannot be built on this machine; None where it can."""
    if not needs_graph(name):
        return None
    if name == "onnx_resize" and (reason := _unfit_for_resize(preprocess)):
        return reason
    if name.startswith("tensorrt"):
        from resnet_dist.export.formats.tensorrt_engine import missing_tensorrt  # noqa: PLC0415 - it imports torch

        return missing_tensorrt(name, *preprocess.input_size)
    for package in ("onnx", "onnxscript", *(("openvino",) if name.startswith("openvino") else ())):
        if find_spec(package) is None:
            return f"the package {package} is not installed; pip install 'resnet-dist[export]'"
    precision = _OPENVINO_PRECISIONS.get(name)
    if precision is not None:
        from resnet_dist.export.formats.openvino_ir import capabilities  # noqa: PLC0415 - openvino is an extra

        if precision not in capabilities():
            return f"OpenVINO does not compute in {precision.lower()} on this processor"
    return None


def _unfit_for_resize(preprocess: Preprocess) -> str | None:
    """Why the resize cannot be in the graph; None where it can."""
    if preprocess.mode == "whole":
        return None
    return (
        f"data.resize={preprocess.mode} cuts or pads by the image's own shape, and the resize in the graph knows "
        "data.resize=whole alone; leave resizing to the runtime, which reads preprocess.json"
    )


def needs_calibration(names: Sequence[Format]) -> bool:
    """Whether any of the formats takes value ranges from images."""
    return any(_is_int8(name) for name in names)


def _is_int8(name: str) -> bool:
    return name.endswith("int8")


def needs_graph(name: Format) -> bool:
    """Whether a format is made of the ONNX graph."""
    return name not in ("torchscript", "torch_export")


def graph_folder(folder: Path) -> Path:
    """Where the ONNX graph is that other formats are made of, whether it is a format of the bundle or not."""
    return folder / "onnx"


def write_graph(
    model: ResNetClassifier, preprocess: Preprocess, folder: Path, opset: int, classes: Sequence[str] = ()
) -> None:
    """Write the ONNX graph that all formats but torch's are made of, with the names of its classes."""
    from resnet_dist.export.formats.onnx_graph import write_onnx  # noqa: PLC0415 - onnx is an extra

    graph_folder(folder).mkdir(parents=True, exist_ok=True)
    write_onnx(InferenceModule(model, preprocess), preprocess, graph_folder(folder) / "model.onnx", opset, classes)


def build(
    name: Format,
    model: ResNetClassifier,
    preprocess: Preprocess,
    folder: Path,
    config: ExportConfig,
    calibration: Calibration,
) -> BuiltFormat:
    """Build one format into a bundle's folder, whose ONNX graph is there. Extras are imported only where needed.

    Raises RuntimeMissingError, and whatever a converter does.
    """
    plain = graph_folder(folder) / "model.onnx"
    place = folder / name
    if name not in ("onnx", "openvino_bf16"):
        place.mkdir(parents=True, exist_ok=True)
    match name:
        case "torchscript" | "torch_export":
            from resnet_dist.export.formats import torch_formats  # noqa: PLC0415

            network = InferenceModule(model, preprocess)
            if name == "torchscript":
                torch_formats.write_torchscript(network, preprocess, place / "model.pt")
                return BuiltFormat(name, "torch", "fp32", ("torchscript/model.pt",))
            torch_formats.write_torch_export(network, preprocess, place / "model.pt2")
            return BuiltFormat(name, "torch", "fp32", ("torch_export/model.pt2",))
        case "onnx":
            return BuiltFormat(name, "onnxruntime", "fp32", ("onnx/model.onnx",))
        case "onnx_resize":
            from resnet_dist.export.formats.onnx_graph import write_onnx_resize  # noqa: PLC0415

            write_onnx_resize(plain, preprocess, place / "model.onnx")
            return BuiltFormat(name, "onnxruntime", "fp32", ("onnx_resize/model.onnx",), any_size=True)
        case "onnxruntime_int8":
            from resnet_dist.export.formats import int8_files  # noqa: PLC0415

            bits = config.weight_bits or int8_files.weight_bits_here()
            proofs = int8_files.write_onnxruntime_int8(plain, place / "model.onnx", calibration, bits)
            hints, files = {"weight_bits": str(bits)}, ("onnxruntime_int8/model.onnx",)
            return BuiltFormat(name, "onnxruntime", "int8", files, hints, proofs=proofs)
        case "onnx_tensorrt_int8":
            from resnet_dist.export.formats import int8_files  # noqa: PLC0415

            proofs = int8_files.write_onnx_tensorrt_int8(plain, place / "model.onnx", calibration)
            return BuiltFormat(name, "onnxruntime", "int8", ("onnx_tensorrt_int8/model.onnx",), proofs=proofs)
        case "openvino" | "openvino_fp16" | "openvino_bf16" | "openvino_int8":
            return _openvino(name, plain, folder, config, calibration)
        case "tensorrt" | "tensorrt_int8":
            return _tensorrt(name, plain, place, preprocess, calibration)
        case _:
            assert_never(name)


def _tensorrt(
    name: Literal["tensorrt", "tensorrt_int8"],
    plain: Path,
    place: Path,
    preprocess: Preprocess,
    calibration: Calibration,
) -> BuiltFormat:
    from resnet_dist.export.formats.tensorrt_engine import write_tensorrt  # noqa: PLC0415 - it imports torch

    proofs: tuple[Int8Proof, ...] = ()
    typed = place / "typed.onnx"
    if name == "tensorrt":
        from resnet_dist.export.formats.onnx_fp16 import write_onnx_fp16  # noqa: PLC0415

        write_onnx_fp16(plain, typed)
    else:
        from resnet_dist.export.formats.int8_files import write_onnx_tensorrt_int8  # noqa: PLC0415

        proofs = write_onnx_tensorrt_int8(plain, typed, calibration)
    write_tensorrt(name, typed, place / "model.engine", *preprocess.input_size)
    precision: Precision = "fp16" if name == "tensorrt" else "int8"
    return BuiltFormat(name, "tensorrt", precision, (f"{name}/model.engine",), proofs=proofs)


def _openvino(name: Format, plain: Path, folder: Path, config: ExportConfig, calibration: Calibration) -> BuiltFormat:
    from resnet_dist.export.formats import openvino_ir  # noqa: PLC0415

    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    # bf16 is how the same file is computed; nothing is stored twice.
    source = "openvino" if name == "openvino_bf16" else name
    path = folder / source / "model.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    files = (f"{source}/model.xml", f"{source}/model.bin")
    match name:
        case "openvino_int8":
            return BuiltFormat(
                name, "openvino", "int8", files, exact, proofs=_openvino_int8(plain, path, config, calibration)
            )
        case "openvino_fp16":
            openvino_ir.write_openvino(plain, path, half=True)
            return BuiltFormat(name, "openvino", "fp16", files, exact)
        case _:
            if not path.exists():
                openvino_ir.write_openvino(plain, path, half=False)
            is_half = name == "openvino_bf16"
            hints = {"INFERENCE_PRECISION_HINT": "bf16"} if is_half else exact
            return BuiltFormat(name, "openvino", "bf16" if is_half else "fp32", files, hints)


def _openvino_int8(plain: Path, path: Path, config: ExportConfig, calibration: Calibration) -> "tuple[Int8Proof, ...]":
    if config.int8_accuracy_drop is None:
        from resnet_dist.export.formats import int8_files  # noqa: PLC0415

        bits = config.weight_bits or int8_files.weight_bits_here()
        return int8_files.write_openvino_int8(plain, path, calibration, bits)
    from resnet_dist.export.formats.openvino_ir import write_openvino_mixed  # noqa: PLC0415

    validation = (calibration.val, calibration.labels)
    write_openvino_mixed(plain, calibration.images, path, config.int8_accuracy_drop, validation)
    return ()  # it was asked to leave layers in floating point
