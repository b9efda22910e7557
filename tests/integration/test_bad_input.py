"""Bad input never costs a run: it ends before any worker starts, with the right exit code and a remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.cli.app import main


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
    assert "--cluster.num-workers=64" in text
    assert "there are 2" in text
    code, text = train("--data.source", "synthetic", "--cluster.num-workers", "3", "--cluster.local-cpus", "2")
    assert code == 2
    assert "--cluster.num-workers=3" in text
    code, text = train(*root, "--cluster.use-gpu", "--cluster.local-cpus", "2")
    assert code == 2
    assert "no GPU" in text
    code, text = train(*root, "--training.microbatch-size", "48")
    assert code == 2
    assert "does not divide" in text


def test_no_such_folder_and_no_such_run(
    train: Callable[..., tuple[int, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = train("--data.root", "absent")
    assert code == 3
    assert text.startswith("error: ")
    assert "absent" in text
    assert "Traceback" not in text
    (tmp_path / "storage" / "runs" / "other").mkdir(parents=True)
    code = main(["evaluate", "no-such-run", "--storage.root", str(tmp_path / "storage")])
    text = capsys.readouterr().err
    assert code == 3
    assert "'no-such-run' is no run" in text
    assert "runs there: other" in text


def test_a_missing_compiler_is_found_before_ray_starts(
    train: Callable[..., tuple[int, str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/no/such/c++")
    assert train("--training.compile")[0] == 2  # wrong usage comes first
    for more in ([], ["--data.folds", "2"]):
        code, text = train("--data.root", str(folder), "--training.compile", *more)
        assert code == 3
        assert "'/no/such/c++' was not found" in text
        assert "training.compile=false" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--schedule.epochs", "12"], "schedule.epochs=12 is longer than training.epochs=10"),
        (["--freezing.layer2", "frozen"], "freezing.layer2=frozen behind a stage that is trainable"),
        (["--freezing.layer1", "frozen", "--freezing.stem", "bn_frozen"], "freezing.layer1=frozen behind a stage"),
        (["--freezing.preset", "gradual", "--freezing.stem", "frozen"], "--freezing.preset=gradual"),
        (["--freezing.preset", "layered", "--freezing.freeze-depth", "2"], "contradict each other"),
        (["--schedule.plateau-monitor", "val/recall"], "val/balanced_accuracy"),
        (["--training.early-stopping-monitor", "train/loss"], "val/balanced_accuracy"),
        (["--training.loss", "focal", "--training.label-smoothing", "0.1"], "focal loss weighs"),
        (["--schedule.kind", "cosine_then_plateau"], "leaves none of training.epochs=10 for the plateau"),
        (
            ["--freezing.preset", "linear_probe_then_finetune", "--freezing.probe-epochs", "10"],
            "--freezing.probe-epochs=10 leaves none",
        ),
        (
            ["--data.sampling", "balanced", "--training.class-weights", "balanced"],
            "--data.sampling=balanced and --training.class-weights=balanced",
        ),
        (["--data.folds", "2", "--schedule.epochs", "12"], "schedule.epochs=12 is longer"),
        (["--data.fold", "1"], "data.folds"),
        (["--augmentation.quarter-turns", "--data.image-width", "96"], "quarter-turns"),
    ],
    ids=lambda value: value[0].removeprefix("--") if isinstance(value, list) else "",
)
def test_contradictions(train: Callable[..., tuple[int, str]], folder: Path, flags: list[str], said: str) -> None:
    code, text = train("--data.root", str(folder), *flags)
    assert code == 2
    assert said in text
    assert "Traceback" not in text


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
