"""The scripts that complete commands and flags. That printing them imports nothing slow is in test_imports.py."""

import shutil
import subprocess
from pathlib import Path

import pytest

from ray_jobs.cli.app import main


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("resnet-dist tr", {"train"}),
        ("resnet-dist runs ", {"list", "show"}),
        ("resnet-dist train --optimizer.lear", {"--optimizer.learning-rate"}),
        ("resnet-dist jobs sto", {"stop"}),
        ("resnet-dist completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: str, offered: set[str]) -> None:
    (tmp_path / "completion").write_text(script("bash", capsys))
    words = typed.split(" ")
    ask = (
        f"source completion; COMP_WORDS=({' '.join(words)}{' ' + repr('') if not words[-1] else ''}); "
        f"COMP_CWORD={len(words) - 1}; COMP_LINE='{typed}'; COMP_POINT={len(typed)}; _resnet_dist; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stderr == ""
    found = {line.strip() for line in done.stdout.split()}
    assert offered <= found
    assert not {"doctor", "queue"} & found


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str], shell: str) -> None:
    text = script(shell, capsys)
    assert "learning-rate" in text
    assert text.startswith("#compdef resnet-dist") if shell == "zsh" else "complete -c resnet-dist" in text
    if shutil.which(shell) is not None:
        (tmp_path / "completion").write_text(text)
        subprocess.run([shell, "-n", "completion"], check=True, cwd=tmp_path, timeout=60)


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert "bash" in capsys.readouterr().err
