"""Initial weights that cannot be used end `train` before a Ray starts: nothing is executed, nothing is left behind."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Never

import pytest
import torch
from safetensors.torch import save_file

from ray_jobs.cli.app import main
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from tests.complaints import complains

Train = Callable[..., tuple[int, str, str]]


class Malicious:
    """Unpickling this creates a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


JOB = """
name = "refused"
data = { root = "data", image_size = 32, cache_dir = "cache" }
model = { arch = "resnet18" }
training = { epochs = 1, global_batch_size = 16, microbatch_size = 8 }
cluster = { num_workers = 1, cpus_per_worker = 1, local_cpus = 2 }
"""


@pytest.fixture
def train(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Train:
    """`resnet-dist train`: exit code, stdout and stderr. No Ray may start."""
    (folder / "job.toml").write_text(JOB)
    monkeypatch.chdir(folder)

    def start(*_: object, **__: object) -> Never:
        raise AssertionError("a Ray was to start")

    monkeypatch.setattr("ray.init", start)

    def run(*flags: str) -> tuple[int, str, str]:
        capfd.readouterr()
        return main(["train", "--config", "job.toml", *flags]), *capfd.readouterr()

    return run


def assert_refused(done: tuple[int, str, str], folder: Path, key: str, *values: object) -> None:
    """Unusable, told in one readable block, and no run was begun."""
    code, out, err = done
    print(err)
    assert code == 3
    assert err.startswith("error: ")
    first, *more = err.splitlines()
    assert all(line.startswith("       ") for line in more), "one block"
    complains(err, key, *values)
    for noise in ("Traceback", "Error:", "ray::", "weights_only", "UnpicklingError"):
        assert noise not in err + out, noise
    assert len(first) < 500
    # A start that was refused leaves the name free for the repaired command, of another identity.
    assert not list((folder / "outputs").rglob("*")), "a refused start left files"


@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_pickled_code_is_never_run(train: Train, folder: Path, form: str) -> None:
    trace, path = folder / "executed", folder / "x.pth"
    if form == "bare":
        path.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
    else:
        weights = build_model(Structure("resnet18"), 2, 0.0, seed=0).state_dict()
        torch.save({**weights, "extra": Malicious(trace)}, path, _use_new_zipfile_serialization=form == "zip")
    done = train("--model.weights", "x.pth")
    assert not trace.exists(), "the file's code was run"
    assert_refused(done, folder, "x.pth")
    torch.load(path, weights_only=False) if form != "bare" else pickle.loads(path.read_bytes())
    assert trace.exists()  # the attack is a real one


@pytest.mark.parametrize("name", ["absent.pth", "absent.safetensors", "no-such-run"])
def test_weights_that_are_not_there(train: Train, folder: Path, name: str) -> None:
    assert_refused(train("--model.weights", name), folder, name)


def test_weights_of_another_architecture(train: Train, folder: Path) -> None:
    save_file(build_model(Structure("resnet34"), 2, 0.0, seed=0).state_dict(), folder / "other.safetensors")
    assert_refused(train("--model.weights", "other.safetensors"), folder, "model.arch", "resnet18", "other.safetensors")


@pytest.mark.slow
def test_the_repaired_command_trains_under_the_same_name(train: Train, folder: Path) -> None:
    assert_refused(train("--model.weights", "mistyped.safetensors"), folder, "mistyped.safetensors")
    save_file(build_model(Structure("resnet18"), 2, 0.0, seed=7).state_dict(), folder / "right.safetensors")
    command = [
        sys.executable,
        "-m",
        "ray_jobs",
        "train",
        "--config",
        "job.toml",
        "--model.weights",
        "right.safetensors",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=280)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "outputs/runs/refused/result.json").is_file()
