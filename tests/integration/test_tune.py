"""What `tune` refuses before anything starts, and its dry run."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Never

import pytest

from ray_jobs.cli.app import main

LEARNING_RATE = '[space]\n"optimizer.learning_rate" = { log_uniform = [0.001, 0.1] }\n'

FLAGS = (
    *("--search", "search.toml", "--data.root", "data", "--model.weights", "none", "--model.arch", "resnet18"),
    *("--data.image-size", "32", "--training.global-batch-size", "4", "--training.microbatch-size", "2"),
)

Tune = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tune(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Tune:
    """Runs the command on a search file's text: its exit code, what it printed, and its errors. No Ray may
    start."""
    monkeypatch.chdir(folder)

    def start(*_: object, **__: object) -> Never:
        raise AssertionError("a Ray was to start")

    monkeypatch.setattr("ray.init", start)

    def run(text: str, *flags: str) -> tuple[int, str, str]:
        (folder / "search.toml").write_text(text)
        code = main(["tune", *FLAGS, *flags])
        printed, errors = capfd.readouterr()
        return code, printed, errors

    return run


@pytest.mark.parametrize(
    ("text", "flags", "code", "key", "rest"),
    [
        (
            '[space]\n"optimizer.learning_rat" = { uniform = [0, 1] }\n',
            (),
            2,
            "space optimizer.learning_rat",
            "did you",
        ),
        ('[space]\n"model.dropout" = { uniform = [0.0, 1.5] }\n', (), 2, "space model.dropout", "1.5"),
        (
            '[space]\n"model.dropout" = { uniform = [0, 0.5], when = { "schedule.kind" = "cosine" } }\n',
            (),
            2,
            "space model.dropout",
            "schedule.kind",
        ),
        ("", (), 2, "space", "name a field"),
        (f'objectives = ["val/auc"]\n{LEARNING_RATE}', (), 2, "search.objectives", "'val/auc'"),
        (LEARNING_RATE, ("--workers-per-trial", "64"), 2, "search.workers_per_trial", "64 workers"),
        (LEARNING_RATE, ("--total-epochs", "3"), 2, "--total-epochs", "give at least"),
        (LEARNING_RATE, ("--storage.root", "data/good/0.png"), 3, "data/good/0.png", "a file stands"),
        (LEARNING_RATE, ("--warm-start", "nothing"), 2, "--warm-start nothing", "name an earlier search"),
        (LEARNING_RATE, ("--data.leakage", "error"), 2, "data.leakage", "resnet-dist data inspect data"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    folder: Path, tune: Tune, text: str, flags: tuple[str, ...], code: int, key: str, rest: str
) -> None:
    ended, _, errors = tune(text, *flags)
    assert (ended, key in errors, rest in errors) == (code, True, True), errors
    assert not (folder / "outputs").exists()


def test_a_missing_compiler_is_found_before_anything_starts(
    folder: Path, tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/no/such/c++")
    code, _, errors = tune(LEARNING_RATE, "--training.compile")
    assert (code, "'/no/such/c++' was not found" in errors) == (3, True), errors
    assert not (folder / "outputs").exists()


def test_a_dry_run_says_what_a_search_would_do_and_stores_nothing(folder: Path, tune: Tune) -> None:
    text = f'trials = 7\n{LEARNING_RATE}"freezing.freeze_depth" = {{ int = [0, 5] }}\n'
    code, printed, errors = tune(text, "--dry-run", "--training.epochs", "9", "--workers-per-trial", "1")
    assert code == 0, errors
    for said in (
        "7 trials of at most 9 epochs by tpe",
        "at a time, each with 1 workers of 1 CPUs",
        "log_uniform 0.001 .. 0.1",
        "0: optimizer.learning_rate=0.01, freezing.freeze_depth=0",
        "of 63 if no trial were ended early",
        "features of 5 frozen stages",
        "shared features:",
        "s of them until the worker groups have started, once for all trials",
    ):
        assert said in printed
    assert not (folder / "outputs").exists()


def test_the_search_that_ships_is_printed_and_read_back(folder: Path, tune: Tune) -> None:
    (folder / "search.toml").write_text(LEARNING_RATE)
    command = [sys.executable, "-m", "ray_jobs", "tune", *FLAGS, "--print-search", "--trials", "9"]
    printed = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=200)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert "trials = 9" in printed.stdout
    assert tune(printed.stdout, "--print-search") == (0, printed.stdout, "")
