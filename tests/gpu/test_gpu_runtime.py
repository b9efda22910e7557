"""A bundle's ONNX format on a GPU, by ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest

from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.engines import load_engine

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="onnxruntime-gpu is not installed"
    ),
]


def test_a_gpu_answers_as_the_processor_does(bundle_folder: Path):
    bundle = Bundle.open(bundle_folder)
    batch = np.random.default_rng(0).integers(0, 256, (8, *bundle.preprocess.input_size, 3), dtype=np.uint8)
    on_gpu, on_cpu = (load_engine(bundle, "onnx", 1, providers=(each,)) for each in ("cuda", "cpu"))
    assert on_gpu.runs_on == "ONNX Runtime on cuda"
    wanted = on_cpu(batch)
    assert np.abs(on_gpu(batch) - wanted).max() <= 1e-3 * np.abs(wanted).max()
