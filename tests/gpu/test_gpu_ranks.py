"""Two ranks with a GPU each, over NCCL: with exact sums they learn what one learns, to the bit."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import torch

pytestmark = pytest.mark.gpu

RANK = """
import sys
from dataclasses import replace

import torch
import torch.distributed as dist

from resnet_dist.training.group import Group
from resnet_dist.training.reduction import build_reduction
from tests.gpu.test_gpu_training import SIZE, everything, make_state, step_of
from resnet_dist.training.train_step import train_step

rank, world_size, kind, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
device = torch.device("cuda", rank)
torch.cuda.set_device(device)
torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
if world_size > 1:
    dist.init_process_group("nccl", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
group = Group(rank, world_size)
state, recipe = make_state(device)
idle = torch.zeros((2, 3, SIZE, SIZE), device=device).to(memory_format=torch.channels_last)
recipe = replace(recipe, group=group, reduction=build_reduction(kind, state.suffix, group, idle))
for number in range(3):
    step = step_of(number, device)
    mine = [microbatch for microbatch in step.microbatches if microbatch.index % world_size == rank]
    train_step(state, recipe, replace(step, microbatches=iter(mine)), 0.001)
torch.save(everything(state), f"{folder}/{rank}.pt")
if world_size > 1:
    dist.destroy_process_group()
"""


def learnt(world_size: int, kind: Literal["exact", "overlapped"], folder: Path) -> list[dict[str, torch.Tensor]]:
    """What each rank holds after three steps."""
    folder.mkdir()
    root = Path(__file__).parents[2]
    commands = [[sys.executable, "-c", RANK, str(r), str(world_size), kind, str(folder)] for r in range(world_size)]
    ranks = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root) for command in commands]
    try:
        for rank in ranks:
            _, said = rank.communicate(timeout=200)
            assert rank.returncode == 0, said
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world_size)]


@pytest.mark.parametrize("kind", ["exact", "overlapped"])
def test_two_ranks_learn_what_one_learns(
    gpu: torch.device, tmp_path: Path, kind: Literal["exact", "overlapped"]
) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip(f"two GPUs are needed, and {gpu} is the only one")
    (alone,) = learnt(1, kind, tmp_path / "one")
    first, second = learnt(2, kind, tmp_path / "two")
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, value in alone.items():
        if kind == "exact":
            assert torch.equal(first[name], value), name
        else:  # float32 sums in another order
            torch.testing.assert_close(first[name], value, rtol=1e-2, atol=1e-3)
