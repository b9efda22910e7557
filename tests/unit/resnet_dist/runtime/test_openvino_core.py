"""One OpenVINO for a process: a second one that outlives the first would leave Ctrl-C without a stack."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino", reason="OpenVINO is not installed")

PROGRAM = """
import gc, signal
import numpy as np
import openvino
from openvino import opset13
from resnet_dist.runtime.loaded_model import openvino_core, openvino_request

def request():
    images = opset13.parameter([1, 3, 8, 8], np.float32)
    return openvino_request(openvino_core(), openvino.Model([opset13.relu(images)], [images]), {}, 1)

first, second = request(), request()
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""


def test_ctrl_c_is_heard_once_engines_have_come_and_gone() -> None:
    """OpenVINO gives the thread a stack for signals, and takes it back in the order of its own objects' ends."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "heard"), done.stderr
