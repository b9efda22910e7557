"""Seeded faults on a running training and search: everything goes on, and nothing is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_thirty_faults_lose_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """The seed is new each time, and printed: `python -m benchmarks.chaos --seed` repeats it."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-m", "benchmarks.chaos", "--faults", "30"], cwd=root, check=False)
    assert done.returncode == 0, "".join(capfd.readouterr())[-6000:]
