"""`predict --workers` of few images: the parts that workers would have made, by this process and without Ray."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = (
    "import sys\nfrom ray_jobs.__main__ import main\ncode = main()\n"
    "assert 'ray' not in sys.modules and 'torch' not in sys.modules\nsys.exit(code)"
)


@pytest.fixture
def photos(tmp_path: Path, image_files: Any) -> Path:
    """Seven photos in the folder `line`; one of them is half a file."""
    (tmp_path / "line").mkdir()
    for number in range(7):
        data = image_files.encode(image_files.photo(48, 40, seed=number), "PNG")
        (tmp_path / "line" / f"{number}.png").write_bytes(data if number != 4 else data[: len(data) // 2])
    return tmp_path


def predict(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT, "predict", *map(str, words)],
        capture_output=True, text=True, cwd=folder, timeout=120,
    )  # fmt: skip


def test_few_images_are_answered_without_a_cluster_into_the_same_parts(bundle_folder: Path, photos: Path) -> None:
    here = ("--batch-size", "3", "--threads", "1")
    alone = predict(photos, bundle_folder, "line", *here)
    assert alone.returncode == 0, alone.stderr
    words = (bundle_folder, "line", *here, "--workers", "2", "--part-size", "3", "--output", "parts")
    done = predict(photos, *words)
    assert done.returncode == 0, done.stderr
    assert "fewer than 1000 images (7): answered in this process, no cluster is started" in done.stderr
    assert "parts: 3 parts" in done.stderr

    parts = sorted(path.name for path in (photos / "parts").iterdir() if path.is_file())
    assert parts == ["part-00000.csv", "part-00001.csv", "part-00002.csv"]
    head, *rows = alone.stdout.splitlines()
    found = [(photos / "parts" / name).read_text().splitlines() for name in parts]
    assert [part[0] for part in found] == [head] * 3
    assert [row for part in found for row in part[1:]] == rows
    assert json.loads((photos / "parts" / "_state/done/00001.json").read_text())["unreadable"] == 1

    (photos / "parts" / "_state/done/00001.json").unlink()
    again = predict(photos, *words)
    assert "2 of 3 parts are complete and stay" in again.stderr
    assert "fewer than 1000 images (3)" in again.stderr


def test_a_damaged_list_is_said(bundle_folder: Path, photos: Path) -> None:
    words = (bundle_folder, "line", "--workers", "2", "--output", "parts")
    assert predict(photos, *words).returncode == 0
    (photos / "parts" / "_state/done/00000.json").unlink()
    (photos / "parts" / "_state/list/00000.json").write_text("[")
    done = predict(photos, *words)
    assert done.returncode == 3
    assert "00000.json is damaged" in done.stderr
