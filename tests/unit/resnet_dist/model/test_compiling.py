"""Compiled parts answer as eager ones; without a compiler they are refused at once."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resnet_dist.model.compiling import compile_parts
from resnet_dist.model.resnet import build_model
from resnet_dist.model.trunk import split

torch.set_num_threads(1)

REFUSED = """
from resnet_dist.errors import RunError
from resnet_dist.model.compiling import compile_parts
from resnet_dist.model.resnet import build_model
from resnet_dist.model.trunk import split

try:
    compile_parts(*split(build_model("resnet18", 2, 0.0, seed=0), 5))
except RunError as error:
    print(error)
"""


@pytest.mark.parametrize("compiler", [None, "/no/such/c++ -O1"])
def test_no_compiler_is_refused_before_training(tmp_path: Path, compiler: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CXX"} | {"PATH": str(tmp_path)}
    if compiler is not None:
        environment["CXX"] = compiler
    done = subprocess.run([sys.executable, "-c", REFUSED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    looked_for = compiler or ("clang++" if sys.platform == "darwin" else "g++")
    assert done.stdout.strip() == (
        f"training.compile=true needs a C++ compiler on CPUs and {looked_for!r} was not found; install one, name "
        "another in the environment variable CXX, or set training.compile=false"
    )


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler on this machine")
def test_compiled_parts_give_nearly_the_eager_logits() -> None:
    trunk, suffix = split(build_model("resnet18", 3, 0.0, seed=0), 4)
    assert trunk is not None
    images = torch.randn((8, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    eager = copy.deepcopy(suffix).train()
    expected = eager(trunk(images))
    expected.square().mean().backward()
    names = list(suffix.state_dict())

    compile_parts(trunk, suffix.train())
    logits = suffix(trunk(images))
    logits.square().mean().backward()

    assert list(suffix.state_dict()) == names
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
    theirs = dict(eager.named_parameters())
    for name, value in suffix.named_parameters():
        assert value.grad is not None
        other = theirs[name].grad
        assert other is not None
        assert (value.grad - other).norm() <= 1e-2 * other.norm() + 1e-6, name
