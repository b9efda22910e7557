"""How the gradients of a step's microbatches become one gradient on every rank.

`ExactReduction` sums multiples of a fixed number in float64, which is exact, so that neither the number of workers nor
the order in which their sums arrive changes the result (Demmel and Nguyen, "Fast Reproducible Floating-Point
Summation", ARITH 2013). `OverlappedReduction` is torch's DistributedDataParallel: float32 sums, sent while the last
backward pass is still running.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from resnet_dist.training.rank_group import RankGroup

_BUCKET_NUMBERS = 16 * 1024 * 1024
"""Float64 numbers sent at once, 128 MiB. Gloo needs less of a CPU for few large messages."""
_ROUNDER = 1.5 * 2.0**12
"""Added in float64 and taken away again, it rounds a gradient to a multiple of 2^-40. Float32 gradients of 2^-16 and
more are such multiples already, and what smaller ones lose, 2^-41 at most, is less than what a weight can see."""
_CACHED_NUMBERS = 128 * 1024
"""Float64 numbers that a CPU works on at once, 1 MiB: they stay in its cache from one operation to the next."""


class Reduction(Protocol):
    """Turns backward passes of `weight`ed losses into the step's gradient in `parameter.grad`."""

    @property
    def module(self) -> nn.Module:
        """What to call for a forward pass."""
        ...

    @property
    def weight(self) -> float:
        """What to multiply each microbatch's share of the mean loss by."""
        ...

    def microbatch(self, last: bool) -> AbstractContextManager[None]:
        """Around one forward and backward pass; `last` of this rank in this step."""
        ...

    def collect(self, loss_scale: torch.Tensor) -> None:
        """After each backward pass; `loss_scale` is a scalar by which gradients are too large, a power of two."""
        ...

    def idle(self) -> None:
        """Instead of microbatches, on a rank that has none in this step."""
        ...

    def finish(self) -> None:
        """At the end of a step: every `parameter.grad` is the same sum on all ranks."""
        ...


class ExactReduction:
    """Local sums and one all-reduce a step, all in float64 and exact while sums stay below 2^13 times the loss scale.

    A larger sum is no error: beyond it, the order may show in the last bit.
    """

    weight = 1.0

    def __init__(self, module: nn.Module, group: RankGroup) -> None:
        self.module = module
        self._group = group
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        sizes = [parameter.numel() for parameter in self._parameters]
        device = self._parameters[0].device
        self.total = torch.zeros(sum(sizes), dtype=torch.float64, device=device)
        """[number of trained weights]: this rank's sum so far; zero between steps."""
        # A parameter's part of the sum has its strides: channels_last gradients are then added in memory order.
        self._parts = [
            part.as_strided(parameter.shape, parameter.stride())
            for part, parameter in zip(torch.split(self.total, sizes), self._parameters, strict=True)
        ]
        self._gradients = [torch.empty_like(parameter) for parameter in self._parameters]
        self._is_on_cpu = device.type == "cpu"

    def microbatch(self, last: bool) -> AbstractContextManager[None]:  # noqa: ARG002 - nothing to synchronise
        """Nothing to hold back: ranks meet only in `finish`."""
        return nullcontext()

    @torch.no_grad()
    def collect(self, loss_scale: torch.Tensor) -> None:
        """Add the backward pass's gradients, rounded, to the sum."""
        rounder = loss_scale.double() * _ROUNDER
        for part, parameter in zip(self._parts, self._parameters, strict=True):
            if parameter.grad is not None:
                for total, terms in _pieces(part, parameter.grad):
                    total.add_(terms.double().add_(rounder).sub_(rounder))
                parameter.grad = None

    def idle(self) -> None:
        """A rank without microbatches adds zero."""

    @torch.no_grad()
    def finish(self) -> None:
        """Sum over the ranks, round to float32 once, and start again from zero."""
        for bucket in torch.split(self.total, _BUCKET_NUMBERS):
            self._group.sum_(bucket)
        for part, gradient, parameter in zip(self._parts, self._gradients, self._parameters, strict=True):
            for total, sums in _pieces(part, gradient):
                sums.copy_(total)
                if self._is_on_cpu:  # while the cache has it
                    total.zero_()
            parameter.grad = gradient
        if not self._is_on_cpu:
            self.total.zero_()


def _pieces(part: torch.Tensor, gradient: torch.Tensor) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs that together are the two whole tensors. On a CPU they are so small that its cache holds them."""
    if part.device.type != "cpu" or part.numel() <= _CACHED_NUMBERS or part.stride() != gradient.stride():
        return [(part, gradient)]
    sums, terms = (torch.split(each.as_strided((each.numel(),), (1,)), _CACHED_NUMBERS) for each in (part, gradient))
    return zip(sums, terms, strict=True)


class OverlappedReduction:
    """DistributedDataParallel, synchronising in each rank's last microbatch only.

    DDP lays out its buckets anew after its first backward pass, in the order in which gradients became ready. A
    process that resumes would thus reduce its first step in another order than one in mid-run, which at three ranks
    and more changes the sums; so one pass of weight zero primes the layout before the first step.
    """

    def __init__(self, module: nn.Module, group: RankGroup, idle_features: torch.Tensor) -> None:
        self._suffix = module
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._idle_features = idle_features
        self.weight = float(group.world_size)  # DDP averages over ranks; the step's mean loss is a sum over them
        self.module = DistributedDataParallel(module, forward_sync_buffers=False) if group.world_size > 1 else module
        self.idle()
        self._clear()

    def microbatch(self, last: bool) -> AbstractContextManager[None]:
        """Hold synchronisation back until this rank's last microbatch."""
        if isinstance(self.module, DistributedDataParallel) and not last:
            return self.module.no_sync()  # pyright: ignore[reportUnknownVariableType]
        return nullcontext()

    def collect(self, loss_scale: torch.Tensor) -> None:
        """Autograd has added the gradients up already."""

    def idle(self) -> None:
        """A pass of weight zero, so that this rank meets the others; its BatchNorm statistics are put back."""
        buffers = [(buffer, buffer.clone()) for buffer in self._suffix.buffers()]
        (self.module(self._idle_features, None).sum() * 0.0).backward()
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)

    def finish(self) -> None:
        """DDP has synchronised in the last backward pass."""

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def build_reduction(
    kind: Literal["exact", "overlapped"], suffix: nn.Module, group: RankGroup, idle_features: Callable[[], torch.Tensor]
) -> Reduction:
    """`idle_features` makes [2, ...], an input of the suffix for passes whose result does not count."""
    match kind:
        case "exact":
            return ExactReduction(suffix, group)
        case "overlapped":
            return OverlappedReduction(suffix, group, idle_features())
