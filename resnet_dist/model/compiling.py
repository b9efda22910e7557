"""torch.compile for both parts of a network."""

import os
import shlex
import shutil
import sys

from torch import nn

from resnet_dist.errors import RunError
from resnet_dist.model.trunk import Suffix, Trunk


def compile_parts(trunk: Trunk | None, suffix: Suffix, teacher: nn.Module | None = None) -> None:
    """Compile both parts, and the network of a teacher, in place, for static shapes; parameters keep their names.

    Nothing is compiled before the first call, so blocks may still be checkpointed, but the parts not yet be wrapped.
    Raises RunError where the parts are on the CPU and there is no C++ compiler.
    """
    if next(suffix.parameters()).device.type == "cpu":
        require_compiler()
    import torch._dynamo  # noqa: PLC0415 - it takes a second

    # Code compiled for other stages would count against the limit, beyond which torch goes on without compiling, as a
    # process that resumes later would not: so each time begins as a new process does, and the limit is an error.
    torch._dynamo.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    for part in (trunk, suffix, teacher):
        if part is not None:
            part.compile(dynamic=False)


def require_compiler() -> None:
    """Look for what torch would call on CPUs (torch._inductor.config.cpp.cxx). Raises RunError where it is missing."""
    named = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(next(iter(shlex.split(named)), "")) is None:
        raise RunError(
            f"training.compile=true needs a C++ compiler on CPUs and {named!r} was not found; install one, name "
            "another in the environment variable CXX, or set training.compile=false"
        )
