"""What commands are tried on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.leaks import police  # noqa: F401 - for all tests here


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with data/: two classes of twelve images."""
    for label in ("good", "bad"):
        place = tmp_path / "data" / label
        place.mkdir(parents=True)
        for number in range(12):
            level = np.random.default_rng([number, len(label)]).integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(level).save(place / f"{number}.png")
    return tmp_path
