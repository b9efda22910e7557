"""How quickly a group of processes sums what each of them holds, as they do with gradients in every step."""

# torch.distributed carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false

import statistics
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from ray_jobs.doctor.all_reduce_timing import Timing

SIZES = (4, 1 << 20, 1 << 25)
"""Bytes: one number, for the latency; one of DDP's buckets; about a third of a ResNet-50's gradients."""
_LONGEST_S = 2.0
"""Of one size; larger ones are left out where one sum takes longer."""
_MOST_ROUNDS = 30
_FEWEST_ROUNDS = 3


def time_all_reduce(
    store: dist.Store, rank: int, ranks: int, device: int | None, timeout: timedelta
) -> tuple[Timing, ...]:
    """Join a group of `ranks` and time it; every rank returns the same. NCCL on a GPU `device`, without one gloo.

    Raises RuntimeError where a rank is missing or a sum is wrong, no later than after about `timeout`.
    """
    place = torch.device("cpu") if device is None else torch.device("cuda", device)
    if device is not None:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "gloo" if device is None else "nccl",
        store=store,
        rank=rank,
        world_size=ranks,
        timeout=timeout,
        device_id=None if device is None else place,
    )
    try:
        found: list[Timing] = []
        for size in SIZES:
            once = _round(size, ranks, place)
            rounds = int(min(max(_LONGEST_S / once, _FEWEST_ROUNDS), _MOST_ROUNDS))
            found.append(Timing(size, statistics.median(_round(size, ranks, place) for _ in range(rounds)), ranks))
            if found[-1].seconds > _LONGEST_S:
                break
        return tuple(found)
    finally:
        dist.destroy_process_group()


def _round(size: int, ranks: int, place: torch.device) -> float:
    """Seconds that one sum takes its slowest rank, the same number on every rank."""
    values = torch.ones(size // 4, device=place)
    dist.barrier()
    began = time.perf_counter()
    dist.all_reduce(values)
    if place.type == "cuda":
        torch.cuda.synchronize(place)
    took = torch.tensor([time.perf_counter() - began], dtype=torch.float64, device=place)
    if not bool((values == ranks).all()):
        raise RuntimeError(f"a sum over {ranks} ranks of ones is {values[0].item():g}")
    dist.all_reduce(took, op=dist.ReduceOp.MAX)
    return max(float(took.item()), 1e-9)
