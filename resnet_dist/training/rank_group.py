"""The ranks that train together, as an argument instead of a global question."""

from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class RankGroup:
    """`rank` of `world_size` in torch's default process group; a group of one needs no process group."""

    rank: int = 0
    world_size: int = 1

    def owned(self, microbatches: int) -> int:
        """How many of a step's microbatches this rank computes: rank, rank + world_size, ..."""
        return len(range(self.rank, microbatches, self.world_size))

    def sum_(self, tensor: torch.Tensor) -> None:
        """Sum over the ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)  # pyright: ignore[reportUnknownMemberType]

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """[world_size, *shape] of every rank's tensor of the same shape."""
        if self.world_size == 1:
            return tensor[None]
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        dist.all_gather(parts, tensor)  # pyright: ignore[reportUnknownMemberType]
        return torch.stack(parts)

    def gather_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """The ranks' rows one after the other, of ranks with different numbers of them: [sum of n, ...]."""
        counts: list[int] = self.gather(torch.tensor([len(rows)], device=rows.device)).flatten().tolist()  # pyright: ignore[reportUnknownVariableType]
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        return torch.cat([part[:count] for part, count in zip(self.gather(padded), counts, strict=True)])

    def broadcast_(self, tensor: torch.Tensor) -> None:
        """Rank zero's values on every rank, in place."""
        if self.world_size > 1:
            dist.broadcast(tensor, src=0)  # pyright: ignore[reportUnknownMemberType]

    def from_rank_zero(self, number: int, device: torch.device) -> int:
        """Rank zero's number on every rank."""
        tensor = torch.tensor([number], device=device)
        self.broadcast_(tensor)
        return int(tensor.item())
