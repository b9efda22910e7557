"""How quickly a group of processes sums what each of them holds, as they do with gradients in every step.

Loads torch only where it measures: the machine that runs `doctor` on a cluster may have none.
"""

# torch.distributed carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false

import statistics
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

SIZES = (4, 1 << 20, 1 << 25)
"""Bytes: one number, for the latency; one of DDP's buckets; about a third of a ResNet-50's gradients."""
_LONGEST_S = 2.0
"""Time for one size; larger sizes are skipped where a single sum takes longer."""
_MOST_ROUNDS = 30
_FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class AllReduceTiming:
    """Sums of one size.

    Bandwidths are those of NVIDIA's nccl-tests (its doc/PERFORMANCE.md). The bus bandwidth does not fall with the
    number of ranks, so it can be compared with a cable's.
    """

    size: int
    """Bytes that each rank holds."""
    seconds: float
    """The median over the rounds of the slowest rank's time."""
    ranks: int

    @property
    def algorithm_bandwidth(self) -> float:
        """Bytes a second: size / time."""
        return self.size / self.seconds

    @property
    def bus_bandwidth(self) -> float:
        """Bytes a second that every link carries: algorithm bandwidth times 2 (n - 1) / n; 0 for one rank."""
        return self.algorithm_bandwidth * 2.0 * (self.ranks - 1) / self.ranks


def time_all_reduce(
    store: "dist.Store", rank: int, ranks: int, device: int | None, timeout: timedelta
) -> tuple[AllReduceTiming, ...]:
    """Join a group of `ranks` and time it; every rank returns the same. NCCL on a GPU `device`; gloo without one.

    Raises RuntimeError when a rank is missing or a sum is wrong, at the latest after about `timeout`.
    """
    import torch
    import torch.distributed as dist

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
        found: list[AllReduceTiming] = []
        for size in SIZES:
            once = _round(size, ranks, place)
            rounds = int(min(max(_LONGEST_S / once, _FEWEST_ROUNDS), _MOST_ROUNDS))
            seconds = statistics.median(_round(size, ranks, place) for _ in range(rounds))
            found.append(AllReduceTiming(size, seconds, ranks))
            if seconds > _LONGEST_S:
                break
        return tuple(found)
    finally:
        dist.destroy_process_group()


def _round(size: int, ranks: int, place: "torch.device") -> float:
    """Seconds that the slowest rank needs for one sum; every rank returns the same number."""
    import torch
    import torch.distributed as dist

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
