"""The 8-bit file of x86 on ARM."""

from pathlib import Path

import numpy as np
import pytest

from resnet_dist.export.formats import int8_files
from resnet_dist.export.formats.build import write_graph
from resnet_dist.export.int8.calibration import Calibration
from resnet_dist.runtime.loaded_model import onnx_session
from tests import arm_root
from tests.unit.resnet_dist.export.formats.test_build import PREPROCESS, images, network

pytestmark = pytest.mark.slow


def test_one_file_answers_alike_on_x86_and_on_arm_with_and_without_dot_products(tmp_path: Path):
    if reason := arm_root.hindrance():
        pytest.skip(reason)
    if int8_files.weight_bits_here() != 8:
        pytest.skip("sums of 16 bits overflow on this processor, which is compared with")
    write_graph(network("resnet18"), PREPROCESS, tmp_path, 20)
    calibration = Calibration([images(16, seed) for seed in range(4)], (), np.empty(0, dtype=np.int64))
    model, batch = tmp_path / "model.onnx", images(4, seed=99)
    int8_files.write_onnxruntime_int8(tmp_path / "onnx" / "model.onnx", model, calibration, 8)
    session, options = onnx_session(model.read_bytes(), 1)
    here = session.run(None, {"images": batch}, options)[0]
    root = arm_root.ArmRoot.unpack(tmp_path)
    for cpu in arm_root.CORES:
        there = root.answers(model, batch, cpu)
        # Integers are added exactly; the rest is too small a part to be computed otherwise.
        assert np.array_equal(there, here), f"{cpu}: logits differ by {np.abs(there - here).max():.1e}"
