"""Nothing tells anybody of itself: before a library is loaded, and unless the user asks for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.runtime.telemetry import TELEMETRY_OFF, refuse_telemetry, telemetry_off

ROOT = Path(__file__).parents[4]
# Where they are set, ONNX Runtime takes the process for a test and keeps still by itself.
CI = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "ORT_RUNNING_UNIT_TESTS")
SESSION = """
import onnxruntime
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
"""


def run(code: str, home: Path, **more: str) -> str:
    """What code prints that runs in a process with a new HOME, without our variables."""
    environment = {name: value for name, value in os.environ.items() if name not in {*TELEMETRY_OFF, *CI}}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)} | more
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout


@given(st.dictionaries(st.sampled_from([*TELEMETRY_OFF, "PATH"]), st.text(max_size=3)))
def test_all_is_switched_off_but_for_what_the_user_has_set(environment: dict[str, str]):
    assert telemetry_off(environment) | environment == TELEMETRY_OFF | environment
    changed = dict(environment)
    refuse_telemetry(changed)
    assert changed == TELEMETRY_OFF | environment
    assert telemetry_off(changed) == {}


@pytest.mark.parametrize(
    "module",
    [
        "resnet_dist.runtime",
        "resnet_dist.export.int8.proof",
        "ray_jobs.trackers.build",
        "ray_jobs.prediction.worker",
    ],
)
def test_it_is_off_before_a_library_can_be_loaded(module: str, tmp_path: Path):
    code = f"""
import json, os, sys
at = []
libraries = ("onnxruntime", "openvino", "nncf", "wandb", "mlflow")
def watch(event, rest):
    if event == "import" and rest[0].partition(".")[0] in libraries:
        at.append((rest[0], os.environ.get("ORT_DISABLE_TELEMETRY")))
sys.addaudithook(watch)
import {module}
print(json.dumps([at, sys.modules["openvino_telemetry"], dict(os.environ)]))
"""
    loaded, package, environment = json.loads(run(code, tmp_path))
    assert package is None
    assert environment.items() >= TELEMETRY_OFF.items()
    assert {value for _, value in loaded} <= {"1"}


def test_onnx_runtime_leaves_nothing_in_the_home_folder_unless_asked(tmp_path: Path):
    asked, unasked = tmp_path / "asked", tmp_path / "unasked"
    asked.mkdir()
    unasked.mkdir()
    run(f"import resnet_dist.runtime\n{SESSION}", unasked)
    run(f"import resnet_dist.runtime\n{SESSION}", asked, ORT_DISABLE_TELEMETRY="0")
    assert not list(unasked.rglob("*"))
    assert list(asked.rglob("deviceid")), "this release of ONNX Runtime writes none: the line above proves nothing"
