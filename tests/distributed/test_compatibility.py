"""What an earlier version has stored is read, continued and used by this one, as if this one had stored it."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from ray_jobs.job.toml import read_job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EARLIER = "8d47302ecb4c51eb6b2127006c751deb756279e5"
"""The last commit before the packages were divided into rooms."""

ROOT = Path(__file__).parents[2]
SEARCH = 'trials = 2\n[space]\n"optimizer.learning_rate" = { log_uniform = [0.001, 0.1] }\n'
Command = Callable[..., subprocess.CompletedProcess[str]]


def commands_of(tree: Path, folder: Path) -> Command:
    """Runs the command of a source tree in `folder`, which must succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "ray_jobs", *map(str, arguments)],
            env=environment | {"PYTHONPATH": str(tree)}, cwd=folder, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture(scope="module")
def earlier_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the earlier version."""
    archive = subprocess.run(["git", "archive", EARLIER], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip(f"commit {EARLIER[:7]} is not in this clone: {archive.stderr.decode().strip()}")
    tree = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(tree, filter="data")
    return tree


@pytest.fixture(scope="module")
def stored(earlier_tree: Path, tmp_path_factory: pytest.TempPathFactory, digits_folder: Path) -> Path:
    """A folder in which the earlier version has trained and judged a run, exported it, and finished a search."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "job.toml").write_text(
        f"""
        name = "kept"
        data = {{ root = "{digits_folder}", image_size = 32, cache_dir = "{folder}/cache" }}
        model = {{ arch = "resnet18", weights = "none" }}
        augmentation = {{ horizontal_flip = 0.0, brightness = 0.2 }}
        schedule = {{ epochs = 1 }}
        training = {{ epochs = 1, global_batch_size = 16, microbatch_size = 8, reduction = "exact" }}
        cluster = {{ num_workers = 1, cpus_per_worker = 1, local_cpus = 2 }}
        """
    )
    (folder / "search.toml").write_text(SEARCH)
    run = commands_of(earlier_tree, folder)
    run("train", "--config", "job.toml")
    run("evaluate", "kept", "--split", "val")
    run("export", "kept", "--formats", "onnx,openvino")
    run("tune", "--config", "job.toml", "--name", "search", "--search", "search.toml")
    (folder / "predicted.csv").write_text(run("predict", "kept", digits_folder / "val", "--threads", "1").stdout)
    return folder


@pytest.fixture
def folder(stored: Path, tmp_path: Path) -> Path:
    """A copy of it, for this version to work on."""
    return shutil.copytree(stored, tmp_path / "stored")


@pytest.fixture
def run(folder: Path) -> Command:
    """This version's command."""
    return commands_of(ROOT, folder)


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_earlier_version_is_another_one(earlier_tree: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import ray_jobs; print(ray_jobs.__file__)"],
        env=os.environ | {"PYTHONPATH": str(earlier_tree)}, capture_output=True, text=True, cwd=earlier_tree.parent,
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(earlier_tree)
    assert (earlier_tree / "ray_jobs" / "train.py").exists()


def test_a_finished_run_is_left_alone_and_judged_alike(folder: Path, run: Command) -> None:
    place = folder / "outputs" / "runs" / "kept"
    checkpoints, judged = files_below(place / "checkpoints"), json.loads((place / "evaluation/val.json").read_bytes())
    assert any(name.endswith("weights.safetensors") for name in checkpoints)
    assert "was finished before" in run("train", "--config", "job.toml").stdout
    assert files_below(place / "checkpoints") == checkpoints
    (place / "evaluation" / "val.json").unlink()
    run("evaluate", "kept", "--split", "val")
    assert json.loads((place / "evaluation/val.json").read_bytes()) == judged | {"run": str(place)}


def test_a_run_that_is_continued_ends_as_one_of_this_version_alone(
    folder: Path, run: Command, assert_same: Callable[..., None]
) -> None:
    run("train", "--config", "job.toml", "--training.epochs", "2")
    run("train", "--config", "job.toml", "--training.epochs", "2", "--name", "alone")
    where = {"storage": {"root": str(folder / "outputs")}}
    assert_same(*(read_job(folder / "job.toml", where | {"name": name}) for name in ("kept", "alone")))


def test_a_finished_search_is_left_alone_shown_and_gone_on_with(folder: Path, run: Command) -> None:
    command = ("tune", "--config", "job.toml", "--name", "search", "--search", "search.toml")
    place = folder / "outputs" / "searches" / "search"
    before = files_below(place)
    assert "was finished before, nothing to do" in run(*command).stdout
    after = files_below(place)
    assert {name for name in before | after if before.get(name) != after.get(name)} <= {"lease.json", "lease-copy.json"}
    page = place / "report" / "index.html"
    page.unlink()
    run("report", "search")
    assert "<html" in page.read_text()

    trials = {name: data for name, data in before.items() if name.endswith("/trial.json")}
    run(*command, "--trials", "3")
    more = {path.relative_to(place).as_posix(): path.read_bytes() for path in place.glob("trials/*/trial.json")}
    assert (len(trials), len(more)) == (2, 3)
    assert more.items() > trials.items()


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_bundle_gives_equal_answers(folder: Path, run: Command, digits_folder: Path, name: str) -> None:
    answers = run("predict", "kept", digits_folder / "val", "--threads", "1", "--format", name).stdout
    assert len(answers.splitlines()) == 1 + 11
    if name == "onnx":
        assert answers == (folder / "predicted.csv").read_text()
