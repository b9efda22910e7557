"""A whole job under Ray with a GPU for its worker: continued, it has learnt what an undisturbed one has."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("ray", reason="ray is not installed")
pytest.importorskip("nvidia.dali", reason="nvidia.dali is not installed")

from benchmarks.learnt import learnt_by
from cluster.config import ClusterConfig
from cluster.session.session import ray_session
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.driver import run_train

pytestmark = pytest.mark.gpu
WHERE = {"num_workers": 1, "cpus_per_worker": 2, "local_cpus": 4}


@pytest.fixture(scope="module")
def local_ray(gpu: torch.device) -> Iterator[None]:
    """The embedded Ray, on a machine with a GPU."""
    assert gpu.type
    with ray_session(ClusterConfig(local_cpus=4)):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ with 23 and val/ with 9 JPEGs of two classes."""
    root, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for number in range(32):
        path = root / ("val" if number < 9 else "train") / f"class {number % 2}" / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = generator.integers(0, 100, (4, 5, 3)) + 100 * (number % 2)
        Image.fromarray(coarse.astype(np.uint8)).resize((75, 60), Image.Resampling.BICUBIC).save(path)
    return root


def job(name: str, epochs: int, reduction: str | None, folder: Path, scratch: Path) -> JobConfig:
    return check(
        {
            "name": name,
            "data": {"root": str(folder), "image_size": 64, "cache_dir": str(scratch / "cache")},
            "model": {"arch": "resnet18", "weights": "none", "dropout": 0.2},
            "schedule": {"epochs": 2},
            "training": {
                "epochs": epochs,
                "global_batch_size": 8,
                "microbatch_size": 4,
                "precision": "bf16",
                "ema_decay": 0.9,
                "mixup_alpha": 0.2,
                "log_every_steps": 1,
            }
            | ({} if reduction is None else {"reduction": reduction}),
            "storage": {"root": str(scratch / "storage")},
            "cluster": WHERE | {"use_gpu": True},
        }
    )


def learnt(done: JobConfig) -> dict[str, torch.Tensor]:
    return learnt_by(RunDirectory.named(done.storage.root, done.name or ""))


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("reduction", ["exact", None], ids=["exact", "default"])
def test_a_continued_job_is_an_undisturbed_one(folder: Path, tmp_path: Path, reduction: str | None) -> None:
    undisturbed = job("undisturbed", 2, reduction, folder, tmp_path)
    outcome = run_train(undisturbed)
    assert 0.0 <= outcome.metrics["val/top1"] <= 1.0
    run_train(job("continued", 1, reduction, folder, tmp_path))
    continued = job("continued", 2, reduction, folder, tmp_path)
    run_train(continued)
    one, other = learnt(undisturbed), learnt(continued)
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different, f"{len(different)} of {len(one)} tensors differ, such as {different[:3]}"
