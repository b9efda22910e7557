"""`benchmark`, `promote` and `pull` as they are typed: exit codes, what is left where, and what a kill leaves."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_jobs.bundles.promote import run_promote
from resnet_dist.runtime.bundle import MANIFEST, Bundle
from tests.real_bundle import as_run, digest_of, inconclusive

COMMAND = [sys.executable, "-m", "ray_jobs"]
SHORT = ("--threads", "1", "--batch-sizes", "1", "--seconds", "0.05", "--formats", "onnx")


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Path:
    """The folder of a bundle with the formats onnx and openvino."""
    return bundle_folder


@pytest.fixture
def root(bundle: Path, tmp_path: Path) -> Path:
    """A storage root with the run a, whose bundle is in production as "line"."""
    root = tmp_path / "store"
    as_run(bundle, root, "a")
    run_promote("a", "line", str(root))
    return root


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that nothing can be written to."""
    yield from mounted(tmp_path / "readonly", "ro,size=1m")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    yield from mounted(tmp_path / "small", "size=1m")


def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True) if os.geteuid() == 0 else None
    if done is None or done.returncode:
        pytest.skip(f"mounting a file system: {done.stderr.strip() if done else 'needs root'}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=200)


def test_an_impossible_ratio_fails_the_gate_with_numbers(bundle: Path, tmp_path: Path):
    numbers = tmp_path / "speed.json"
    done = run("benchmark", bundle, *SHORT, "--fail-under", "onnx=1000000ips", "--json", numbers)
    assert done.returncode == 4, done.stderr
    assert "images/s with batches of 1 on 1 threads, at least 1e+06 are asked for" in done.stderr
    assert "fp32" in done.stdout
    assert json.loads(numbers.read_text())["failures"]
    assert run("benchmark", bundle, *SHORT, "--fail-under", "onnx=0.001ips").returncode == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--fail-under", "onnx=fast"), "write FORMAT=RATIO"),
        (("--threads", "many"), "--threads many: give whole numbers"),
        (("--fail-under", "onnx=2"), "no reference"),
    ],
)
def test_wrong_usage_of_benchmark(bundle: Path, flags: tuple[str, ...], said: str):
    done = run("benchmark", bundle, *flags)
    assert done.returncode == 2
    assert said in done.stderr


def test_promote_pull_and_roll_back(root: Path, bundle: Path, tmp_path: Path):
    where, line = ("--storage.root", root), tmp_path / "line"
    as_run(inconclusive(bundle, tmp_path / "unsure", "openvino"), root, "b")
    less = run("promote", "b", "--as", "less", *where)
    assert less.returncode == 0
    assert "openvino is not in it: inconclusive, top-1 falls by 0.40 points" in less.stdout
    assert run("promote", "b", "--as", "line", "--accept-inconclusive", *where).returncode == 0
    first = run("pull", "line", "--to", line, *where)
    assert first.returncode == 0, first.stderr
    assert digest_of(line) == digest_of(tmp_path / "unsure")
    assert "held already" in run("pull", "line", "--to", line, *where).stdout
    assert run("promote", "line", "--rollback", *where).returncode == 0
    assert run("pull", "line", "--to", line, *where).returncode == 0
    assert digest_of(line) == digest_of(bundle)
    assert run("promote", "nothing", "--rollback", *where).returncode == 2


@pytest.mark.parametrize("verb", ["promote", "pull"])
def test_a_damaged_bundle_is_unusable(root: Path, tmp_path: Path, verb: str):
    for graph in root.rglob("onnx/model.onnx"):
        graph.write_bytes(graph.read_bytes() + b"?")
    arguments = {"promote": ("a", "--as", "new"), "pull": ("line", "--to", tmp_path / "line")}[verb]
    done = run(verb, *arguments, "--storage.root", root)
    assert done.returncode == 3
    assert "was changed" in done.stderr
    assert not (tmp_path / "line").exists()
    assert not (root / "bundles" / "new" / "production.json").exists()


def test_pull_into_a_folder_of_something_else_is_refused(root: Path, tmp_path: Path):
    done = run("pull", "line", "--to", tmp_path, "--storage.root", root)
    assert done.returncode == 2
    assert "and no bundle" in done.stderr


def test_pull_to_where_nothing_can_be_written(root: Path, read_only: Path):
    done = run("pull", "line", "--to", read_only / "deep" / "line", "--storage.root", root)
    assert done.returncode == 3
    assert "the file system is read-only" in done.stderr
    assert not list(read_only.iterdir())


def test_pull_to_a_full_disk_leaves_nothing(root: Path, small_disk: Path):
    done = run("pull", "line", "--to", small_disk / "deep" / "line", "--storage.root", root)
    assert done.returncode == 3
    assert "no space is left" in done.stderr
    assert not list(small_disk.iterdir())


def test_pull_beyond_a_limit_on_files_leaves_nothing(root: Path, tmp_path: Path):
    """As on a full disk, where none can be mounted."""
    command = [*COMMAND, "pull", "line", "--to", tmp_path / "deep" / "line", "--storage.root", root]
    limit = (1 << 20, 1 << 20)
    done = subprocess.run(
        [str(each) for each in command],
        capture_output=True,
        text=True,
        timeout=200,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    assert done.returncode == 3, done.stderr
    assert "no space is left" in done.stderr
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("files", [1, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("there", [False, True])
def test_a_killed_pull_leaves_the_folder_complete_or_absent(
    root: Path, bundle: Path, tmp_path: Path, files: int, there: bool
):
    """Killed when so many files have arrived; with a bundle there already, that one stays."""
    place = tmp_path / "machine"
    line = place / "line"
    old = inconclusive(bundle, tmp_path / "old", "openvino")
    if there:
        assert run("pull", old, "--to", line).returncode == 0
    pulling = subprocess.Popen([*COMMAND, "pull", "line", "--to", str(line), "--storage.root", str(root)])
    while pulling.poll() is None:
        arrived = [path for path in place.glob(".line.part-*/**/*") if path.is_file()] if place.exists() else []
        if len(arrived) >= files:
            pulling.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    code = pulling.wait()
    assert code in (0, -signal.SIGKILL)
    if (line / MANIFEST).exists():
        Bundle.open(line).verify()
        assert digest_of(line) == digest_of(bundle if code == 0 else old if there else bundle)
    else:
        assert not there
        assert not line.exists()
    # The next one ends what was begun, and clears up.
    assert run("pull", "line", "--to", line, "--storage.root", root).returncode == 0
    assert digest_of(line) == digest_of(bundle)
    assert list(place.iterdir()) == [line]
