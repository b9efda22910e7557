"""Each job file of examples/ trains on images of its kind. Only sizes and places are others here, and the weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ray_jobs import api
from ray_jobs.cli.app import main
from ray_jobs.job.toml import read_job

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZES: dict[str, Any] = {
    "name": "example",
    "data": {"image_size": 32},
    "model": {"arch": "resnet18", "weights": "none"},
    "training": {"epochs": 1, "global_batch_size": 16, "microbatch_size": 8},
    "cluster": {"num_workers": 1, "cpus_per_worker": 1, "local_cpus": 4},
}


def photographs(root: Path, make: Callable[[int, np.random.Generator], np.ndarray], *counts: int) -> Path:
    """One folder for each class; `make` draws an image of a class."""
    draw = np.random.default_rng(0)
    for label, count in enumerate(counts):
        (root / f"class {label}").mkdir(parents=True)
        for number in range(count):
            Image.fromarray(make(label, draw)).save(root / f"class {label}/{number:03d}.png")
    return root


def colour(label: int, draw: np.random.Generator) -> np.ndarray:
    return np.clip(draw.normal(60 + 60 * label, 20, (40, 48, 3)), 0, 255).astype(np.uint8)


def camera(label: int, draw: np.random.Generator) -> np.ndarray:
    """Grey, 12 bits in 16."""
    return np.clip(draw.normal(900 + 900 * label, 300, (40, 48)), 0, 4095).astype(np.uint16)


def large(label: int, draw: np.random.Generator) -> np.ndarray:
    return np.kron(colour(label, draw), np.ones((50, 50, 1), dtype=np.uint8))


CASES: dict[str, tuple[Callable[[int, np.random.Generator], np.ndarray], tuple[int, ...]]] = {
    "few-images": (colour, (20, 20)),
    "unbalanced": (colour, (60, 10, 8)),
    "grey-16bit": (camera, (20, 20)),
    "large-images": (large, (12, 12)),
    "cluster": (colour, (20, 20)),
    "demo": (colour, (20, 20)),
}


def test_every_job_file_is_a_whole_job_and_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == CASES.keys()
    for name in CASES:
        read_job(EXAMPLES / f"{name}.toml", {})


def test_the_clusters_example_is_what_submit_takes(capfd: pytest.CaptureFixture[str]):
    config = str(EXAMPLES / "cluster.toml")
    assert main(["submit", "train", "--config", config, "--team", "vision", "--dry-run", "client"]) == 0
    printed = capfd.readouterr().out
    assert "kind: RayJob" in printed
    assert "tiles-resnet50" in printed


@pytest.mark.usefixtures("shared_ray")
@pytest.mark.parametrize(
    "name", [name if name == "unbalanced" else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_an_example_trains(name: str, tmp_path: Path):
    make, counts = CASES[name]
    sizes = {section: dict(values) if isinstance(values, dict) else values for section, values in SIZES.items()}
    sizes["data"] |= {"root": str(photographs(tmp_path / "photographs", make, *counts)), "cache_dir": str(tmp_path)}
    sizes["storage"] = {"root": str(tmp_path / "outputs")}
    if name == "large-images":
        sizes["data"]["image_size"] = 64
    if name == "few-images":
        sizes |= {"freezing": {"probe_epochs": 1}, "training": sizes["training"] | {"epochs": 2}}
    outcome = api.train(read_job(EXAMPLES / f"{name}.toml", sizes))
    assert outcome.epochs == sizes["training"]["epochs"]
    assert 0 <= outcome.metrics["val/macro_f1"] <= 1
