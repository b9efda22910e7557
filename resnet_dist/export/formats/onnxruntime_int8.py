"""int8 for ONNX Runtime: static, with QuantizeLinear pairs, ranges from images and a scale for each channel."""

# onnx and onnxruntime carry few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUntypedBaseClass=false

import platform
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from resnet_dist.runtime.model_contract import INPUT

Processor = Literal["x86_vnni", "x86", "arm"]


def this_processor() -> Processor:
    """What kind of processor this machine has, as far as 8-bit arithmetic goes."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "x86"
    return "x86_vnni" if "vnni" in flags else "x86"


def write_onnxruntime_int8(plain: Path, images: Iterable[NDArray[np.uint8]], path: Path, processor: Processor) -> None:
    """Quantise the graph of `plain` with value ranges (MinMax) from batches of images, uint8 [N, height, width, 3].

    Activations are unsigned on x86, where signed ones leave many convolutions in floating point, and signed on ARM;
    x86 without VNNI takes 7-bit weights. What comes before the first convolution stays as it is.
    """
    with tempfile.TemporaryDirectory(prefix="rd-int8-") as folder:
        prepared, quantised = Path(folder) / "prepared.onnx", Path(folder) / "quantised.onnx"
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantised,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=processor == "x86",
            activation_type=QuantType.QInt8 if processor == "arm" else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_before_convolutions(prepared),
        )
        model = onnx.load(quantised)
    del model.metadata_props[:]
    model.metadata_props.extend(onnx.load(plain, load_external_data=False).metadata_props)
    path.write_bytes(model.SerializeToString(deterministic=True))


class _Images(CalibrationDataReader):
    """One batch at a time."""

    def __init__(self, images: Iterable[NDArray[np.uint8]]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(images)

    def get_next(self) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next batch, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def _before_convolutions(path: Path) -> list[str]:
    """Names of the nodes that normalise: those that no convolution comes before."""
    nodes = onnx.load(path).graph.node
    first = next(place for place, node in enumerate(nodes) if node.op_type == "Conv")
    return [node.name for node in nodes[:first]]
