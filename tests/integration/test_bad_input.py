"""Bad input never costs a run: it ends before any worker starts, with the right exit code and a remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.cli import main


@pytest.fixture
def folder(tmp_path: Path, image_files: Any) -> Path:
    """Two classes of four images."""
    for name in ("left", "right"):
        for number in range(4):
            path = tmp_path / "data" / name / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image_files.encode(image_files.photo(20, 16, seed=number), "JPEG"))
    return tmp_path / "data"


@pytest.fixture
def train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Exit code and stderr of a training command."""

    def run(*flags: str) -> tuple[int, str]:
        storage = tmp_path / "storage"
        where = ["--storage.root", str(storage), "--data.cache-dir", str(tmp_path / "cache")]
        code = main(["train", *where, "--model.weights", "none", "--model.arch", "resnet18", *flags])
        assert not list(storage.glob("runs/*/status.json")), "a refused start wrote a status"
        return code, capsys.readouterr().err

    return run


def test_usage(train: Callable[..., tuple[int, str]], folder: Path) -> None:
    code, text = train()
    assert code == 2
    assert "data.root" in text
    root = ("--data.root", str(folder))
    code, text = train(*root, "--cluster.num-workers", "64", "--cluster.local-cpus", "2")
    assert code == 2
    assert "cluster.num_workers=64" in text
    assert "there are 2" in text
    code, text = train(*root, "--cluster.use-gpu", "--cluster.local-cpus", "2")
    assert code == 2
    assert "no GPU" in text
    code, text = train(*root, "--training.microbatch-size", "48")
    assert code == 2
    assert "does not divide" in text


def test_data(train: Callable[..., tuple[int, str]], folder: Path, image_files: Any) -> None:
    code, text = train("--data.root", str(folder / "nowhere"))
    assert code == 3
    assert "nowhere" in text
    bad = {name.replace(" ", "-"): data for name, data in image_files.damaged().items()}
    for name, data in bad.items():
        (folder / "left" / f"{name}.jpg").write_bytes(data)
    code, text = train("--data.root", str(folder))
    assert code == 3
    assert "Traceback" not in text
    for name in bad:
        assert name in text
    assert "on_unreadable" in text
