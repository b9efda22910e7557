"""Commands on real files, watched by strace: they leave the home folder empty, and know no network."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from resnet_dist.runtime.telemetry import TELEMETRY_OFF
from tests.untrained_run import untrained_run

ROOT = Path(__file__).parents[2]
# Where they are set, ONNX Runtime takes the process for a test and keeps still by itself.
CI = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "ORT_RUNNING_UNIT_TESTS")
LOOKUP = re.compile(r"^.*(socket\(|/etc/(resolv\.conf|hosts|nsswitch\.conf)|nscd).*$", re.MULTILINE)
"""A line of strace: any socket, or what is read to look up a name."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """That of a new user, without our variables."""
    kept = {name: value for name, value in os.environ.items() if name not in {*TELEMETRY_OFF, *CI}}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), **more}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A new user's home folder, empty."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def photo(tmp_path: Path, image_files: Any) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(image_files.encode(image_files.photo(48, 40), "PNG"))
    return path


@pytest.fixture
def strace(tmp_path: Path) -> list[str]:
    """The beginning of a command that writes what it does with the network and with files to tmp_path/trace."""
    command = ["strace", "-f", "-o", str(tmp_path / "trace"), "-e", "trace=%network,openat,open"]
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this user, or this container, must not trace processes")
    return command


def answer(strace: list[str], bundle: Path, photo: Path, home: Path, seconds: float, **more: str) -> None:
    """`predict` with a list on stdin that ends after so many seconds."""
    command = [*strace, sys.executable, "-m", "ray_jobs", "predict", str(bundle), "-", "--output", os.devnull]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home, **more)
    ) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            child.stdin.write(f"{photo}\n".encode() * 2)
            child.stdin.flush()
            time.sleep(0.2)
        child.stdin.close()
        said = child.stderr.read()
    assert child.returncode == 0, said
    assert b" 0 unreadable" in said


@pytest.mark.parametrize("seconds", [1.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_predict_opens_no_socket_looks_up_no_name_and_writes_nothing_at_home(
    seconds: float, strace: list[str], bundle_folder: Path, photo: Path, home: Path, tmp_path: Path
):
    answer(strace, bundle_folder, photo, home, seconds)
    trace = (tmp_path / "trace").read_text()
    assert "bundle.json" in trace
    assert not LOOKUP.findall(trace)
    assert not list(home.rglob("*"))


def test_benchmark_writes_nothing_at_home(bundle_folder: Path, home: Path, tmp_path: Path):
    flags = ["--threads", "1", "--batch-sizes", "1", "--seconds", "0.05", "--json", str(tmp_path / "numbers.json")]
    command = [sys.executable, "-m", "ray_jobs", "benchmark", str(bundle_folder), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment(home))
    assert done.returncode == 0, done.stderr
    assert "openvino" in (tmp_path / "numbers.json").read_text()
    assert not list(home.rglob("*"))


@pytest.mark.slow
def test_export_of_every_kind_opens_no_connection_and_leaves_its_own_cache_at_home(
    strace: list[str], home: Path, tmp_path: Path
):
    """The scan cache of the images is ours, and where `data.cache_dir` says."""
    storage, formats = untrained_run(tmp_path, "line"), "onnx,openvino,openvino_int8,onnxruntime_int8,torchscript"
    flags = ["--storage.root", str(storage), "--output", str(tmp_path / "bundle"), "--formats", formats]
    variables = {name: value for name, value in environment(home).items() if name != "XDG_CACHE_HOME"}
    command = [*strace, sys.executable, "-m", "ray_jobs", "export", "line", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=variables)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bundle" / "openvino_int8").is_dir()
    assert not re.findall(r"^.*(AF_INET|resolv\.conf).*$", (tmp_path / "trace").read_text(), re.MULTILINE)
    assert {path.parent.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()} == {
        ".cache/resnet-dist/scan"
    }


@pytest.mark.slow
def test_telemetry_would_be_seen(strace: list[str], bundle_folder: Path, photo: Path, home: Path, tmp_path: Path):
    answer(strace, bundle_folder, photo, home, 15.0, ORT_DISABLE_TELEMETRY="0")
    assert LOOKUP.findall((tmp_path / "trace").read_text())
    assert list(home.rglob("deviceid"))
