"""OpenVINO's format, in fp32, with weights in fp16, and partly in int8 by NNCF."""

# openvino and nncf carry few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_dist.runtime.loaded_model import openvino_core
from resnet_dist.runtime.model_contract import INPUT


def write_openvino(plain: Path, path: Path, *, half: bool) -> None:
    """Convert an ONNX graph to path (.xml) and the .bin beside it, with weights in fp16 where `half`."""
    import openvino  # noqa: PLC0415 - only some formats need it

    openvino.save_model(openvino.convert_model(plain), path, compress_to_fp16=half)


def write_openvino_mixed(
    plain: Path,
    images: Sequence[NDArray[np.uint8]],
    path: Path,
    accuracy_drop: float,
    validation: tuple[Sequence[NDArray[np.uint8]], NDArray[np.int64]],
) -> None:
    """Quantise by NNCF, and put layers back to floating point until top-1 falls by at most `accuracy_drop`.

    Value ranges (minimum and maximum) are those of batches of images, uint8 [N, height, width, 3]; top-1 is that of
    `validation`, batches and their labels in one array. Bias correction is off: it costs 9 dB on ResNets.
    """
    import nncf  # noqa: PLC0415 - it takes seconds to import
    import openvino  # noqa: PLC0415
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters  # noqa: PLC0415
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet  # noqa: PLC0415

    for name in ("nncf", "torch.utils.cpp_extension"):
        logging.getLogger(name).setLevel(logging.ERROR)
    batches, labels = validation
    ends = np.cumsum([len(batch) for batch in batches])
    # Each batch goes with its labels: NNCF also asks for one batch alone, and does not say which.
    labelled = list(zip(batches, np.split(labels, ends[:-1]), strict=True))

    def top1(compiled: Any, data: Any) -> tuple[float, None]:
        right = [compiled(batch)[0].argmax(axis=1) == truth for batch, truth in data]
        return float(np.concatenate(right).mean()), None

    quantised = nncf.quantize_with_accuracy_control(
        openvino.convert_model(plain),
        calibration_dataset=nncf.Dataset(images, lambda batch: {INPUT: batch}),  # pyright: ignore[reportUnknownLambdaType]
        validation_dataset=nncf.Dataset(labelled, lambda each: {INPUT: each[0]}),  # pyright: ignore[reportUnknownLambdaType]
        validation_fn=top1,
        max_drop=accuracy_drop,
        drop_type=nncf.DropType.ABSOLUTE,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(images),
        advanced_quantization_parameters=AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            weights_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            disable_bias_correction=True,
        ),
    )
    openvino.save_model(quantised, path, compress_to_fp16=False)


def capabilities() -> set[str]:
    """What OpenVINO computes in on this processor, such as INT8 and BF16."""
    return set(openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
