"""The example of the loop runs and learns."""

import runpy
from pathlib import Path

import pytest

LOOP = Path(__file__).parents[3] / "examples/loop.py"


@pytest.mark.slow
def test_the_loop_learns_synthetic_classes(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = runpy.run_path(str(LOOP))["train"]()
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("step ") for line in printed) == 30
    assert sum(line.startswith("epoch ") for line in printed) == 5
    assert metrics["val/top1"] > 0.5  # of three classes
