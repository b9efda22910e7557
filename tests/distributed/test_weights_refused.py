"""First weights that cannot be used end the real command at once: nothing is executed, nothing is left behind."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from resnet_dist.model.resnet import build_model

COMMAND = Path(sys.executable).with_name("resnet-dist")
Train = Callable[..., subprocess.CompletedProcess[str]]


class Malicious:
    """Unpickling this creates a folder."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def train(tmp_path: Path, digits_folder: Path) -> Train:
    """`resnet-dist train` as a process of its own, which starts a Ray of its own if it comes to that."""
    job = tmp_path / "job.toml"
    job.write_text(
        f"""
        name = "refused"
        data = {{ root = "{digits_folder}", image_size = 32, cache_dir = "{tmp_path}/cache" }}
        model = {{ arch = "resnet18" }}
        training = {{ epochs = 1, global_batch_size = 16, microbatch_size = 8 }}
        cluster = {{ num_workers = 1, cpus_per_worker = 1, local_cpus = 2 }}
        """
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}

    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [COMMAND, "train", "--config", "job.toml", *flags]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=280)

    return run


def assert_refused(done: subprocess.CompletedProcess[str], folder: Path, *said: str) -> None:
    """Unusable, said in one readable block, and no run was begun."""
    print(done.stderr)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    first, *more = done.stderr.splitlines()
    assert all(line.startswith("       ") for line in more), "one block"
    for text in said:
        assert text in done.stderr
    for noise in ("Traceback", "Error:", "ray::", "weights_only", "UnpicklingError"):
        assert noise not in done.stderr + done.stdout, noise
    assert len(first) < 500
    # A start that was refused leaves the name free for the mended command, of another identity.
    assert not list((folder / "outputs").rglob("*")), "a refused start left files"


@pytest.mark.parametrize("form", ["zip", *(pytest.param(form, marks=pytest.mark.slow) for form in ("legacy", "bare"))])
def test_pickled_code_is_never_run(train: Train, tmp_path: Path, form: str) -> None:
    trace, path = tmp_path / "executed", tmp_path / "x.pth"
    if form == "bare":
        path.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
    else:
        weights = build_model("resnet18", 3, 0.0, seed=0).state_dict()
        torch.save({**weights, "extra": Malicious(trace)}, path, _use_new_zipfile_serialization=form == "zip")
    done = train("--model.weights", "x.pth")
    assert not trace.exists(), "the file's code was run"
    assert_refused(done, tmp_path, str(path), "was not loaded" if form != "bare" else "")
    assert not trace.exists()
    torch.load(path, weights_only=False) if form != "bare" else pickle.loads(path.read_bytes())
    assert trace.exists()  # the attack is a real one


@pytest.mark.parametrize(
    "name",
    ["absent.pth", *(pytest.param(each, marks=pytest.mark.slow) for each in ("absent.safetensors", "no-such-run"))],
)
def test_weights_that_are_not_there(train: Train, tmp_path: Path, name: str) -> None:
    assert_refused(train("--model.weights", name), tmp_path, name)


def test_weights_of_another_architecture(train: Train, tmp_path: Path) -> None:
    save_file(build_model("resnet34", 3, 0.0, seed=0).state_dict(), tmp_path / "other.safetensors")
    done = train("--model.weights", "other.safetensors")
    assert_refused(done, tmp_path, "other.safetensors", "do not fit model.arch=resnet18", "is unknown")


@pytest.mark.slow
def test_the_mended_command_trains_under_the_same_name(train: Train, tmp_path: Path) -> None:
    assert_refused(train("--model.weights", "mistyped.safetensors"), tmp_path, "mistyped.safetensors")
    save_file(build_model("resnet18", 3, 0.0, seed=7).state_dict(), tmp_path / "right.safetensors")
    done = train("--model.weights", "right.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "outputs/runs/refused/result.json").is_file()
