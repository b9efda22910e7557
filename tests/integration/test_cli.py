"""The real command in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("resnet-dist")


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, cwd=cwd, timeout=200)


def test_print_config_round_trips_through_a_file(tmp_path: Path):
    flags = ["--data.root", 'Prüf "teile"', "--seed", "7", "--checkpoint.every-minutes", "none", "--name", "a.b"]
    first = run("train", "--print-config", *flags, cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    (tmp_path / "job.toml").write_text(first.stdout, encoding="utf-8")
    second = run("train", "--config", "job.toml", "--print-config", cwd=tmp_path)
    assert (second.returncode, second.stderr, second.stdout) == (0, "", first.stdout)
    overridden = run("train", "--config", "job.toml", "--print-config", "--seed", "8", cwd=tmp_path)
    assert overridden.stdout == first.stdout.replace("seed = 7", "seed = 8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[optimizer]\nlearning_rte = 0.1\n",
            "optimizer.learning_rte: unknown key; did you mean optimizer.learning_rate?",
        ),
        ("[optimiser]\nkind = 'sgd'\n", "optimiser: unknown key; did you mean optimizer?"),
        ("[training]\nepochs = 'ten'\n", "training.epochs='ten': input should be a valid integer"),
        ("[training]\nmicrobatch_size = 48\n", "does not divide training.global_batch_size=64; use 32 or 64"),
        ("[training\n", "job.toml is not TOML"),
    ],
)
def test_a_wrong_file_ends_with_2_before_anything_starts(tmp_path: Path, text: str, said: str):
    (tmp_path / "job.toml").write_text(text)
    done = run("train", "--config", "job.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(r"error: .*" + re.escape(said), done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["job.toml"]


def test_a_wrong_flag_ends_with_2_and_names_the_nearest(tmp_path: Path):
    done = run("train", "--trainning.epochs", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: --trainning.epochs: unknown flag; did you mean --schedule.epochs or --training.epochs?\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_unusable_data_ends_with_3_and_debug_shows_where(tmp_path: Path):
    done = run("train", "--data.root", "absent", "--model.weights", "none", "--debug", cwd=tmp_path)
    assert done.returncode == 3
    *trace, said = done.stderr.rstrip().split("\n")
    assert any(line.startswith("Traceback") for line in trace)
    assert said.startswith("error: ")
    assert "absent" in said


@pytest.mark.parametrize(
    ("sent", "code", "line"),
    [
        (signal.SIGINT, 130, "interrupted; the same command resumes"),
        (signal.SIGTERM, 143, "ended from outside (SIGTERM); the same command resumes"),
    ],
)
def test_a_signal_ends_with_its_code_and_one_line(tmp_path: Path, sent: signal.Signals, code: int, line: str):
    # A file that never ends stands for any work: the interrupt meets the command while it reads.
    os.mkfifo(tmp_path / "job.toml")
    process = subprocess.Popen(
        [COMMAND, "train", "--config", "job.toml"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    with (tmp_path / "job.toml").open("w"):  # opens once the command has opened it too
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, f"error: {line}\n")


def test_version_and_help(tmp_path: Path):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run("--version", cwd=tmp_path).stdout)
    shown = run("--help", cwd=tmp_path).stdout
    for verb in ("train", "evaluate", "data", "doctor", "Exit codes"):
        assert verb in shown
