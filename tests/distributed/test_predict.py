"""Predictions by two workers of an embedded Ray: those of one process, also when the driver is killed meanwhile."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
IMAGES, PER_PART = 1200, 20


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, image_files: Any) -> Path:
    """1,200 photos in the folder `line`; one of them is half a file."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "line").mkdir()
    kinds = [image_files.encode(image_files.photo(48, 40, seed=seed), "PNG") for seed in range(12)]
    for number in range(IMAGES):
        (folder / "line" / f"{number:04d}.png").write_bytes(kinds[number % 12])
    (folder / "line" / "0123.png").write_bytes(kinds[0][: len(kinds[0]) // 2])
    return folder


def command(bundle: Path, photos: Path, *more: str | Path) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "ray_jobs", "predict", bundle, "line", *more]
    return subprocess.Popen(arguments, cwd=photos, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def by_two(bundle: Path, photos: Path, output: Path) -> subprocess.Popen[bytes]:
    size, cpus = ["--part-size", str(PER_PART)], ["--threads", "1", "--cluster.local-cpus", "2"]
    return command(bundle, photos, "--workers", "2", "--output", output, *size, *cpus)


def table(parts: list[bytes]) -> list[bytes]:
    """All rows, with the head once. Confidences differ in the last digits between batches of other images."""
    lines = [part.splitlines() for part in parts]
    return [lines[0][0], *(row for part in lines for row in part[1:])]


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not holds():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.01)


def test_a_killed_driver_costs_only_what_was_not_complete(bundle_folder: Path, photos: Path, tmp_path: Path) -> None:
    alone = command(bundle_folder, photos)
    expected, _ = alone.communicate(timeout=240)
    assert alone.returncode == 0
    output = tmp_path / "parts"
    done = output / "_state" / "done"

    first = by_two(bundle_folder, photos, output)
    wait_for(lambda: done.is_dir() and len(list(done.glob("*.json"))) >= 3, first)
    # Its Ray ends with it, and its workers with their Ray. Agents take longer, and write no parts.
    started = [each for each in psutil.Process(first.pid).children(recursive=True) if "Agent" not in each.name()]
    first.kill()
    first.communicate()
    _, alive = psutil.wait_procs(started, timeout=100)
    assert not alive
    complete = {path.stem: path.stat().st_mtime_ns for path in done.glob("*.json")}
    kept = {stem: (output / f"part-{stem}.csv").stat().st_mtime_ns for stem in complete}
    assert 3 <= len(kept) < IMAGES // PER_PART

    second = by_two(bundle_folder, photos, output)
    _, said = second.communicate(timeout=280)
    assert second.returncode == 0, said.decode()
    assert f"{len(kept)} of {IMAGES // PER_PART} parts are complete and stay" in said.decode()
    assert {stem: (output / f"part-{stem}.csv").stat().st_mtime_ns for stem in kept} == kept
    parts = sorted(path for path in output.iterdir() if path.name.startswith("part-"))
    assert [path.name for path in parts] == [f"part-{number:05d}.csv" for number in range(IMAGES // PER_PART)]
    found, wanted = table([path.read_bytes() for path in parts]), table([expected])
    assert [row.split(b",")[:2] for row in found] == [row.split(b",")[:2] for row in wanted]
    for row, same in zip(found[1:], wanted[1:], strict=True):
        (_, _, sure, error), (_, _, known, reason) = row.split(b",", 3), same.split(b",", 3)
        assert error == reason
        assert float(sure or 0) == pytest.approx(float(known or 0), abs=2e-5)
    assert f"{IMAGES} images in " in said.decode()
    assert "1 unreadable" in said.decode()

    # All is done: the same command says so, and starts no Ray.
    third = by_two(bundle_folder, photos, output)
    _, said = third.communicate(timeout=100)
    assert third.returncode == 0
    assert "60 of 60 parts are complete and stay" in said.decode()
    assert "nothing to compute" in said.decode()

    (photos / "line" / "new.png").write_bytes((photos / "line" / "0000.png").read_bytes())
    changed = by_two(bundle_folder, photos, output)
    _, said = changed.communicate(timeout=100)
    (photos / "line" / "new.png").unlink()
    assert changed.returncode == 3
    assert "not listed then: 1, such as line/new.png" in said.decode()


def test_what_a_worker_cannot_use_is_said_as_anywhere_else(bundle_folder: Path, photos: Path, tmp_path: Path) -> None:
    output = tmp_path / "parts"
    too_many = command(
        bundle_folder, photos, "--workers", "3", "--threads", "2", "--cluster.local-cpus", "2", "--output", output
    )
    _, said = too_many.communicate(timeout=200)
    assert too_many.returncode == 2
    assert "--workers 3 with 2 threads each need 6 CPUs, and there are 2" in said.decode()
    lists = output / "_state" / "list" / "00001.json"  # the driver reads the first, to see how many images there are
    assert lists.exists()
    lists.write_text("[")
    damaged = command(bundle_folder, photos, "--workers", "1", "--cluster.local-cpus", "2", "--output", output)
    _, said = damaged.communicate(timeout=200)
    assert damaged.returncode == 3
    assert "error: " in said.decode()
    assert "00001.json is damaged" in said.decode()
    assert "Traceback" not in said.decode()
