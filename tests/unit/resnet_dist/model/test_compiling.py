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
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split
from tests.complaints import complains

torch.set_num_threads(1)

REFUSED = """
import os
import sys

from resnet_dist.errors import RunError
from resnet_dist.model.compiling import compile_parts
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split

for compiler in sys.argv[1:]:
    if compiler:
        os.environ["CXX"] = compiler
    try:
        compile_parts(*split(build_model(Structure("resnet18"), 2, 0.0, seed=0), 5))
    except RunError as error:
        print(error)
"""


def test_no_compiler_is_refused_before_training(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CXX"} | {"PATH": str(tmp_path)}
    compilers = ("", "/no/such/c++ -O1")
    done = subprocess.run([sys.executable, "-c", REFUSED, *compilers], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    default = "clang++" if sys.platform == "darwin" else "g++"
    for error, compiler in zip(done.stdout.splitlines(), compilers, strict=True):
        complains(error, "training.compile", True, compiler or default, remedy=("install", "name", "set"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler on this machine")
def test_compiled_parts_give_nearly_the_eager_logits() -> None:
    trunk, suffix = split(build_model(Structure("resnet18"), 3, 0.0, seed=0), 4)
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
