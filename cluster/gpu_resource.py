"""Names under which Kubernetes offers GPUs and parts of them, as NVIDIA's device plugin makes them. Knows no torch.

A whole GPU is nvidia.com/gpu. With the plugin's strategy "mixed" each MIG device is nvidia.com/mig-<profile>. With time
slicing and renameByDefault a slice is nvidia.com/gpu.shared.
"""

import re

WHOLE_GPU = "nvidia.com/gpu"
SHARED_GPU = "nvidia.com/gpu.shared"
_MIG = re.compile(r"nvidia\.com/mig-([1-9]c\.)?[1-9]g\.[1-9]\d{0,3}gb([.-][a-z]{1,8}){0,3}")
"""Compute slices of a GPU instance ("1c."), its slices and memory, and attributes (".me", ".shared")."""
_RULE = f"must be {WHOLE_GPU}, {SHARED_GPU} or nvidia.com/mig-PROFILE, such as nvidia.com/mig-1g.10gb"
_REMEDY = "`kubectl describe nodes` lists under Allocatable what the nodes offer"


def is_gpu_resource(name: str) -> bool:
    """Whether a resource of Kubernetes is a GPU or a part of one."""
    return name in (WHOLE_GPU, SHARED_GPU) or _MIG.fullmatch(name) is not None


def checked_gpu_resource(name: str) -> str:
    """The name of a GPU resource as it was given. Raises ValueError, without the value, for any other."""
    if not is_gpu_resource(name):
        raise ValueError(f"{_RULE}; {_REMEDY}")
    return name


def part_of_gpu(name: str) -> str:
    """The name of a resource that is a part of a GPU. Raises ValueError, without the value, for any other."""
    if name == WHOLE_GPU:
        raise ValueError("is a whole GPU, which the key gpus counts; name a part, such as nvidia.com/mig-1g.10gb")
    return checked_gpu_resource(name)
