"""The help of every command, kept as one file so that changes of its English are read as a difference.

`RESNET_DIST_WRITE_HELP=1 pytest tests/integration/test_help.py` writes the file anew.
"""

import difflib
import os
import re
from pathlib import Path

import pytest
from cyclopts import App
from rich.console import Console

from ray_jobs.cli.app import app

HELP = Path(__file__).with_name("help.txt")
WIDTH = 110


_SEEN = "(as above)"


def _new(panel: str, panels: set[str]) -> str:
    found = _SEEN if panel in panels else panel
    panels.add(panel)
    return found


def helps(
    program: App, words: tuple[str, ...], capsys: pytest.CaptureFixture[str], panels: set[str] | None = None
) -> list[str]:
    """What `words --help` prints, and that of all commands below; panels that stand above already are left out."""
    panels = set() if panels is None else panels
    app.help_print(words, console=Console(width=WIDTH, force_terminal=False, color_system=None, legacy_windows=False))
    found = [f"$ {' '.join(('resnet-dist', *words, '--help'))}"]
    text = re.sub(r"╭.*?╯", lambda panel: _new(panel.group(), panels), capsys.readouterr().out, flags=re.S)
    found += [line.rstrip() for line in text.splitlines() if line != _SEEN] + [""]
    for name in program:
        if not name.startswith("-"):
            found += helps(program[name], (*words, name), capsys, panels)
    return found


def test_the_help_of_all_commands_is_as_it_was_read(capsys: pytest.CaptureFixture[str]) -> None:
    lines = helps(app, (), capsys)
    assert sum(line.startswith("$ resnet-dist") for line in lines) == 40
    if os.environ.get("RESNET_DIST_WRITE_HELP"):
        HELP.write_text("\n".join(lines), encoding="utf-8")
    kept = HELP.read_text(encoding="utf-8").split("\n")
    changes = "\n".join(difflib.unified_diff(kept, lines, "help.txt", "now", lineterm="", n=0))
    assert not changes, f"read the changes, then write the file with RESNET_DIST_WRITE_HELP=1:\n{changes}"
