"""The wheel with the base dependencies alone, in an environment of its own: no torch there, and predictions."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.base_environment import ROOT, base_distributions, make_base_environment


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the environment."""
    return make_base_environment(tmp_path_factory.mktemp("base") / "environment")


def run(python: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *arguments], capture_output=True, text=True, cwd=cwd, timeout=200)


def test_what_is_heavy_is_not_there(python: Path, tmp_path: Path):
    heavy = ["torch", "ray", "pyarrow", "sklearn", "nvidia", "openvino", "pandas", "numpy"]
    ask = f"import importlib.util as u; print(*(name for name in {heavy} if u.find_spec(name) is not None))"
    # One that is there would be seen.
    assert run(python, "-c", ask, cwd=tmp_path).stdout.split() == ["numpy"]


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


def test_the_manifests_are_installed(python: Path, tmp_path: Path):
    ask = "import cluster, pathlib; print(pathlib.Path(cluster.__file__).parent / 'k8s')"
    installed = Path(run(python, "-c", ask, cwd=tmp_path).stdout.strip())
    assert Path("jobs/train.yaml") in files(installed)
    assert files(installed) == files(ROOT / "k8s")


def files(folder: Path) -> dict[Path, bytes]:
    """What is below a folder, but for what Python leaves there."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def test_an_installed_package_reads_its_own_manifests(python: Path, tmp_path: Path):
    """With what the extra `cluster` adds, which the environment of the base lacks, on the path."""
    ask = (
        f"import sys; sys.path.append({str(Path(yaml.__file__).parents[1])!r})\n"
        "from cluster.kube.manifests import load_job, manifest_folder\n"
        "print(manifest_folder()); print(*(each['kind'] for each in load_job('tune')))"
    )
    folder, kinds = run(python, "-c", ask, cwd=tmp_path).stdout.split("\n")[:2]
    assert Path(folder).parts[-2:] == ("cluster", "k8s")
    assert ROOT not in Path(folder).parents
    assert kinds == "ConfigMap RayJob"
