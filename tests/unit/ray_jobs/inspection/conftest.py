"""A folder of parts with everything wrong that an inspection should find, and how a command is run on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ray_jobs.cli.app import main
from tests.textures import texture


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Two classes of 20 pictures, all different."""
    root = tmp_path / "parts"
    for label, name in enumerate(("bent", "good")):
        (root / name).mkdir(parents=True)
        for number in range(20):
            texture(1000 * label + number).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    """Flags that keep a command's files in the test's folder."""
    return ["--storage.root", str(tmp_path / "storage"), "--data.cache-dir", str(tmp_path / "cache")]


@pytest.fixture
def inspect(place: list[str]) -> Callable[..., int]:
    """`data inspect` of a folder, decoded by the reference; the exit code."""

    def run(folder: Path, *flags: str) -> int:
        return main(["data", "inspect", str(folder), "--data.source", "reference", *place, *flags])

    return run
