"""--providers: some words, each once; and what answered is said."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cluster.config import ClusterConfig
from ray_jobs.errors import ConfigError
from ray_jobs.prediction.on_cluster import Parts, run_predict_on_cluster
from ray_jobs.prediction.predict import PredictOptions


@pytest.mark.parametrize("named", [(), ("cpu", "cpu"), ("gpu",)])
def test_other_words_are_refused_with_those_there_are(named: tuple[str, ...]):
    with pytest.raises(ConfigError, match=r"--providers .* must name some of tensorrt, cuda, cpu, each once"):
        PredictOptions(providers=named)  # pyright: ignore[reportArgumentType]


def test_predict_says_what_answered(bundle_folder: Path, tmp_path: Path):
    Image.new("RGB", (20, 30)).save(tmp_path / "photo.png")
    words = [sys.executable, "-m", "ray_jobs", "predict", f"{bundle_folder}/", str(tmp_path / "photo.png")]
    done = subprocess.run([*words, "--providers", "cpu"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "answered by ONNX Runtime on cpu\n" in done.stderr


def test_workers_have_no_gpu(bundle_folder: Path, tmp_path: Path):
    options, parts = PredictOptions(providers=("cuda",)), Parts(str(tmp_path / "parts"), 10, 1)
    with pytest.raises(ConfigError, match=r"--providers cuda: workers compute on the CPU; leave it out"):
        run_predict_on_cluster(bundle_folder, [str(tmp_path)], options, parts, ClusterConfig())
