"""Two ranks with a GPU each, over NCCL: with exact sums they learn what one learns, to the bit."""

from collections.abc import Callable
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

from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.reduction import build_reduction
from tests.gpu.test_gpu_training import SIZE, everything, make_state, step_of
from resnet_dist.training.train_step import train_step

rank, world_size, folder, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
device = torch.device("cuda", rank)
torch.cuda.set_device(device)
torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
if world_size > 1:
    dist.init_process_group("nccl", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
group = RankGroup(rank, world_size)
state, recipe = make_state(device)
idle = torch.zeros((2, 3, SIZE, SIZE), device=device).to(memory_format=torch.channels_last)
recipe = replace(recipe, group=group, reduction=build_reduction(kind, state.suffix, group, lambda: idle))
for number in range(3):
    step = step_of(number, device)
    mine = [microbatch for microbatch in step.microbatches if microbatch.index % world_size == rank]
    train_step(state, recipe, replace(step, microbatches=iter(mine)), 0.001)
torch.save(everything(state), f"{folder}/{rank}.pt")
if world_size > 1:
    dist.destroy_process_group()
"""


@pytest.mark.parametrize("kind", ["exact", "overlapped"])
def test_two_ranks_learn_what_one_learns(
    gpu: torch.device,
    tmp_path: Path,
    run_ranks: Callable[..., list[dict[str, torch.Tensor]]],
    kind: Literal["exact", "overlapped"],
) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip(f"two GPUs are needed, and {gpu} is the only one")
    (alone,) = run_ranks(RANK, 1, tmp_path / "one", kind)
    first, second = run_ranks(RANK, 2, tmp_path / "two", kind)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, value in alone.items():
        if kind == "exact":
            assert torch.equal(first[name], value), name
        else:  # float32 sums in another order
            torch.testing.assert_close(first[name], value, rtol=1e-2, atol=1e-3)
