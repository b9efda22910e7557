"""`resnet-dist predict` with a bundle that was made to do harm: it ends, with exit code 3 and one readable block."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from resnet_dist.runtime.predictor import NOT_FINITE
from tests import hostile_models as hostile

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

Predict = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def predict(bundle_folder: Path, tmp_path: Path) -> Predict:
    """Answers four images, red 0, 100, 255 and 30, by a bundle with another ONNX model, in a process of its own."""

    def run(model: onnx.ModelProto, *arguments: str) -> "subprocess.CompletedProcess[str]":
        files = {"onnx/model.onnx": model.SerializeToString()}
        bundle = hostile.bundle_with(bundle_folder, tmp_path / "hostile", files)
        for name, red in (("a", 0), ("b", 100), ("c", 255), ("d", 30)):
            Image.fromarray(np.full((32, 32, 3), (red, 7, 9), np.uint8)).save(tmp_path / f"{name}.png")
        command = [sys.executable, "-m", "ray_jobs", "predict", str(bundle), *(f"{name}.png" for name in "abcd")]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, timeout=100
        )

    return run


@pytest.mark.parametrize(
    ("model", "said"),
    [
        # Half a minute in one node, which nothing ends but the end of the process.
        (hostile.deaf(100_000_000), "it cannot be ended, and goes on until this process ends"),
        (hostile.endless(), "take smaller batches or allow more time (--batch-timeout-s)"),
    ],
    ids=["deaf", "endless"],
)
def test_a_model_that_never_returns_ends_the_command_with_3(predict: Predict, model: onnx.ModelProto, said: str):
    done = predict(model, "--batch-timeout-s", "1.5", "--threads", "1")
    assert done.returncode == 3, done.stderr
    assert "hostile/onnx/model.onnx did not answer a batch of 4 images in 1.5 s" in done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_model_that_takes_a_file_beside_the_images_is_refused(predict: Predict, tmp_path: Path):
    (tmp_path / "weights.bin").write_bytes(np.ones(3, np.float32).tobytes())
    done = predict(hostile.external("weights.bin"))
    assert (done.returncode, done.stdout) == (3, "")
    assert "hostile/onnx/model.onnx takes the tensor 'weight' from another file" in done.stderr
    assert "Traceback" not in done.stderr


def test_answers_that_are_not_finite_are_rows_and_json_lines_stay_json(predict: Predict):
    done = predict(hostile.not_finite(), "--output-format", "jsonl", "--probabilities")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = [json.loads(line, parse_constant=pytest.fail) for line in done.stdout.splitlines()]
    assert [row["error"] for row in rows] == [NOT_FINITE, None, NOT_FINITE, None]
    assert [row["probabilities"] is None for row in rows] == [True, False, True, False]
    assert f"c.png: {NOT_FINITE}" in done.stderr
