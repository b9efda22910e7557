"""The wheel with the base dependencies alone, in an environment of its own: no torch there, and predictions."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclopts import App

from benchmarks.base_environment import ROOT, base_distributions, make_base_environment
from ray_jobs.cli.app import app
from ray_jobs.job.team_toml import example_team, print_team


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the environment."""
    return make_base_environment(tmp_path_factory.mktemp("base") / "environment")


def run(python: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    # What lies on the path of the tests is not installed there.
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, *arguments], capture_output=True, text=True, cwd=cwd, timeout=200, env=alone)


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


COMMANDS = {
    "data sample": "digits made",
    "data inspect": "images",
    "data diff": "images images",
    "data split": "images --output split.csv",
    "train": "--data.root images",
    "tune": "--data.root images",
    "evaluate": "run",
    "report": "search",
    "compress plan": "run --target macs=0.5",
    "compress distill": "run --model.widths 0.75",
    "compress prune": "run --target macs=0.5",
    "compress quantize": "run --always",
    "compress chain": "run --recipe half-latency",
    "compress show": "run",
    "export": "run",
    "promote": "run",
    "pull": "line7 --to line7",
    "runs list": "",
    "runs show": "run",
    "searches list": "",
    "submit": "train --data.root images",
    "jobs list": "",
    "jobs status": "job",
    "jobs logs": "job",
    "jobs stop": "job",
    "jobs wait": "job",
    "queue create": "vision --config team.toml",
    "queue show": "",
    "queue usage": "",
}
"""Every command that needs more than the base install, with arguments that are right."""
WORKING = {"doctor", "predict", "benchmark", "completion"}
"""Those that work without; tests run them."""


def leaves(app: App, words: tuple[str, ...] = ()) -> list[str]:
    """The commands of an app, with those above them."""
    names = [name for name in app if not name.startswith("-")]
    return [leaf for name in names for leaf in leaves(app[name], (*words, name))] if names else [" ".join(words)]


def test_every_command_says_in_one_sentence_what_to_install(python: Path, tmp_path: Path):
    assert {*COMMANDS, *WORKING} == set(leaves(app))
    (tmp_path / "images" / "good").mkdir(parents=True)
    (tmp_path / "team.toml").write_text(print_team(example_team("vision")))
    # In one process, which is one start of Python for all: none of them comes so far as to leave something behind.
    code = (
        "import contextlib, io, json, sys\n"
        "from ray_jobs.cli.app import main\n"
        "for line in sys.argv[1:]:\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as said:\n"
        "        code = main(line.split())\n"
        "    print(json.dumps([code, said.getvalue()]))"
    )
    lines = [f"{command} {arguments}" for command, arguments in COMMANDS.items()]
    done = run(python, "-c", code, *lines, cwd=tmp_path)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines), done.stderr
    for command, (code, said) in zip(COMMANDS, answers, strict=True):
        name = command.partition(" ")[0]
        line = rf"error: {name} needs the package \w+, which is not installed; pip install 'resnet-dist\[\w+\]'\n"
        assert code == 2, f"{command}: {said}"
        assert re.fullmatch(line, said), f"{command}: {said}"
    assert not (tmp_path / "outputs").exists()


def test_the_doctor_works_and_says_what_to_install(python: Path, tmp_path: Path):
    done = run(python, python.with_name("resnet-dist"), "doctor", "--json", "checks.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    found = {each["name"]: each for each in json.loads((tmp_path / "checks.json").read_text())}
    assert {"python", "packages", "CPU cores", "disk"} <= set(found)
    assert [name for name, each in found.items() if each["status"] == "error"] == ["packages"]
    assert re.fullmatch(r"\d+ absent: .* and \d+ more", found["packages"]["found"])
    assert done.stdout.count("pip install") == 1
    assert "packages: pip install 'resnet-dist[train]'" in done.stdout


def test_it_measures_formats_without_torch(python: Path, bundle_folder: Path, tmp_path: Path):
    few = ("--formats", "onnx", "--threads", "1", "--batch-sizes", "1", "--seconds", "0.1", "--json", "speed.json")
    done = run(python, python.with_name("resnet-dist"), "benchmark", bundle_folder, *few, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [each["format"] for each in json.loads((tmp_path / "speed.json").read_text())["speeds"]] == ["onnx"]
    assert "no reference: this bundle does not lie in its run" in " ".join(done.stdout.split())


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
