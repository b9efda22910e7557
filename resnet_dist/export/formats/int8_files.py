"""The 8-bit files of a bundle: written from its ONNX graph, and proven to be 8-bit before they are anything else."""

# onnx carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import platform
import tempfile
from pathlib import Path

import onnx

from resnet_dist.export.int8.calibration import Calibration
from resnet_dist.export.int8.placement import place
from resnet_dist.export.int8.proof import Int8Proof, by_structure, in_onnxruntime, in_openvino
from resnet_dist.export.int8.writer import quantised
from resnet_dist.quantisation.dialect import CPU, TENSORRT, Dialect
from resnet_dist.runtime.loaded_model import openvino_core

_CPU_INFO = Path("/proc/cpuinfo")


def weight_bits_here() -> int:
    """Of weights for this machine: 7 on x86 without 8-bit dot products, where sums of 16 bits could overflow."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return 8
    try:
        return 8 if "vnni" in _CPU_INFO.read_text() else 7
    except OSError:
        return 7


def write_onnxruntime_int8(plain: Path, path: Path, calibration: Calibration, bits: int) -> tuple[Int8Proof, ...]:
    """For ONNX Runtime on x86 and ARM. Raises ValueError where it would not be 8-bit there."""
    data = _data(plain, calibration, CPU, bits)
    path.write_bytes(data)
    return _proven(in_onnxruntime(data, "x86"), in_onnxruntime(data, "arm"))


def write_openvino_int8(plain: Path, path: Path, calibration: Calibration, bits: int) -> tuple[Int8Proof, ...]:
    """The same numbers in OpenVINO's form. Raises ValueError where it would not be 8-bit on this processor."""
    import openvino  # noqa: PLC0415 - an extra's

    with tempfile.TemporaryDirectory(prefix="rd-int8-") as folder:
        written = Path(folder) / "model.onnx"
        written.write_bytes(_data(plain, calibration, CPU, bits))
        model = openvino.convert_model(written)
        openvino.save_model(model, path, compress_to_fp16=False)
    return _proven(in_openvino(openvino_core().read_model(path)))


def write_onnx_tensorrt_int8(plain: Path, path: Path, calibration: Calibration) -> tuple[Int8Proof, ...]:
    """For TensorRT, which builds an engine of it. Raises ValueError where something is not as TensorRT asks."""
    data = _data(plain, calibration, TENSORRT, 8)
    path.write_bytes(data)
    return _proven(by_structure(onnx.load_from_string(data)))


def _data(plain: Path, calibration: Calibration, dialect: Dialect, bits: int) -> bytes:
    model = onnx.load(plain)
    placement = place(model, dialect)
    made = quantised(model, placement, calibration.ranges(model, placement.activations), dialect, bits)
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString(deterministic=True)


def _proven(*proofs: Int8Proof) -> tuple[Int8Proof, ...]:
    for proof in proofs:
        proof.require()
    return proofs
