"""The wheel with the base dependencies alone, in an environment of its own: no torch there, and predictions."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.base_environment import base_distributions, make_base_environment


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the environment."""
    return make_base_environment(tmp_path_factory.mktemp("base") / "environment")


def run(python: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *arguments], capture_output=True, text=True, cwd=cwd, timeout=200)


@pytest.mark.parametrize("heavy", ["torch", "ray", "pyarrow", "sklearn", "nvidia", "openvino", "pandas"])
def test_what_is_heavy_is_not_there(python: Path, heavy: str, tmp_path: Path):
    done = run(python, "-c", f"import {heavy}", cwd=tmp_path)
    assert done.returncode == 1
    assert f"No module named '{heavy}'" in done.stderr


def test_the_base_is_what_the_metadata_asks_for(python: Path, tmp_path: Path):
    ask = "import importlib.metadata as m; print(*{d.metadata['Name'] for d in m.distributions()}, sep='\\n')"
    found = {name.lower().replace("_", "-") for name in run(python, "-c", ask, cwd=tmp_path).stdout.split()}
    assert found == {*base_distributions(), "resnet-dist"}


def test_it_predicts(python: Path, bundle_folder: Path, image_files: Any, tmp_path: Path):
    for seed in range(3):
        (tmp_path / f"{seed}.png").write_bytes(image_files.encode(image_files.photo(48, 40, seed=seed), "PNG"))
    done = run(python, python.with_name("resnet-dist"), "predict", bundle_folder, ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["path", "./0.png", "./1.png", "./2.png"]
    answer = (
        "from resnet_dist.runtime.predictor import Predictor\n"
        f"print([each.label or '' for each in Predictor.from_bundle({str(bundle_folder)!r}).predict("
        "['0.png', '1.png', '2.png'])])"
    )
    assert run(python, "-c", answer, cwd=tmp_path).stdout.strip() == str(
        [line.split(",")[1] for line in done.stdout.splitlines()[1:]]
    )


def test_what_needs_an_extra_says_which(python: Path, bundle_folder: Path, tmp_path: Path):
    command = [python.with_name("resnet-dist"), "predict", bundle_folder, "."]
    openvino = run(python, *command, "--format", "openvino", cwd=tmp_path)
    assert openvino.returncode == 2
    assert "pip install 'resnet-dist[openvino]', or use --format onnx" in openvino.stderr
    workers = run(python, *command, "--workers", "2", "--output", "parts", cwd=tmp_path)
    assert workers.returncode == 2
    assert "pip install 'resnet-dist[cluster]'" in workers.stderr
