"""One embedded Ray for all tests of this folder, a small folder of real images, and runs compared to the bit."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.learnt import learnt_by
from cluster.config import ClusterConfig
from cluster.session.session import ray_session
from ray_jobs import api
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.job.toml_codec import merged
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.outcome import TrainOutcome
from tests.compressed import Place

# The outcome of a failed worker is known sooner; read by Ray when its controller starts.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[None]:
    """Ray with four logical CPUs, whatever the machine has; nothing of it is left afterwards."""
    with ray_session(ClusterConfig(local_cpus=4)):
        yield
        # Other tests' processes are children of this one too: Ray's own are its servers and all below them.
        servers = [child for child in psutil.Process().children() if child.name() in {"raylet", "gcs_server"}]
        processes = servers + [child for server in servers for child in server.children(recursive=True)]
    assert servers
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive, f"Ray left {alive} behind"


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ with 47 and val/ with 11 digits of three classes: uneven ends at every batch size used here."""
    root = tmp_path_factory.mktemp("data")
    digits: Any = load_digits()
    for label in (0, 1, 2):
        images = digits.images[digits.target == label][:20]
        for number, pixels in enumerate(images[: 20 if label else 18]):
            split = "val" if number < (4 if label else 3) else "train"
            path = root / split / f"digit {label}" / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).resize((24, 24)).save(path)
    return root


JobMaker = Callable[..., JobConfig]


@dataclass(frozen=True)
class Trained:
    """A run that is done."""

    job: JobConfig
    outcome: TrainOutcome


@pytest.fixture(scope="session")
def undisturbed(
    shared_ray: None,  # noqa: ARG001 - one Ray for all
    tmp_path_factory: pytest.TempPathFactory,
    digits_folder: Path,
) -> Trained:
    """The plain tiny job trained by one worker, which is what any number of workers must learn to the bit."""
    job = _maker(tmp_path_factory.mktemp("undisturbed"), digits_folder)("undisturbed")
    with redirect_stdout(StringIO()) as printed:
        outcome = api.train(job)
    assert printed.getvalue() == "", "a function of the API prints nothing"
    return Trained(job, outcome)


@pytest.fixture
def place(tmp_path: Path, undisturbed: Trained) -> Place:
    found = RunDirectory.named(undisturbed.job.storage.root, "undisturbed").uri
    shutil.copytree(found, tmp_path / "storage/runs/whole")
    return Place(tmp_path / "storage")


@pytest.fixture
def make_job(tmp_path: Path, digits_folder: Path) -> JobMaker:
    """A tiny job by name, worker count and overrides; each worker has one thread, as bitwise claims need."""
    return _maker(tmp_path, digits_folder)


def _maker(tmp_path: Path, digits_folder: Path) -> JobMaker:

    def make(name: str, workers: int = 1, overrides: dict[str, Any] | None = None) -> JobConfig:
        tree = {
            "name": name,
            "data": {"root": str(digits_folder), "image_size": 32, "cache_dir": str(tmp_path / "cache")},
            "augmentation": {"horizontal_flip": 0.0, "brightness": 0.2, "erase": 0.3},
            "model": {"arch": "resnet18", "weights": "none", "dropout": 0.2},
            "optimizer": {"learning_rate": 0.02, "clip_norm": 5.0},
            "training": {
                "epochs": 2,
                "global_batch_size": 16,
                "microbatch_size": 4,
                "reduction": "exact",
                "label_smoothing": 0.1,
                "log_every_steps": 1,
            },
            "storage": {"root": str(tmp_path / "storage")},
            "cluster": {"num_workers": workers, "cpus_per_worker": 1, "local_cpus": 4},
        }
        return check(merged(tree, overrides or {}))

    return make


def weights_of(job: JobConfig) -> dict[str, torch.Tensor]:
    """Everything that a run has learnt."""
    return learnt_by(RunDirectory.named(job.storage.root, job.name or ""))


@pytest.fixture
def learnt() -> Callable[[JobConfig], dict[str, torch.Tensor]]:
    """Reads what a run has learnt."""
    return weights_of


@pytest.fixture
def assert_same() -> Callable[[JobConfig, JobConfig], None]:
    """Fails unless two runs have learnt the same to the bit."""

    def compare(first: JobConfig, second: JobConfig) -> None:
        one, other = weights_of(first), weights_of(second)
        assert one.keys() == other.keys()
        different = [name for name in one if not torch.equal(one[name], other[name])]
        assert not different, f"{len(different)} of {len(one)} tensors differ, such as {different[:3]}"

    return compare
