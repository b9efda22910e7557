"""BatchNorm whose statistics do not depend on how many workers there are.

Each microbatch is normalised by its own statistics, wherever it is computed. The running statistics move once a
step, by the sample-weighted mean over all of the step's microbatches, summed in their global order. With momentum 1
during the step, PyTorch leaves each microbatch's own mean and unbiased variance in the running buffers, to be read
off after its forward pass. So SyncBatchNorm has nothing to add.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]


class RunningStatistics:
    """The running statistics of a module's trained BatchNorm layers, as one vector of `width` numbers."""

    def __init__(self, module: nn.Module) -> None:
        self._layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
        self._buffers = [buffer for layer in self._layers for buffer in (layer.running_mean, layer.running_var)]
        self.width = sum(buffer.numel() for buffer in self._present())

    @contextmanager
    def of_microbatches(self) -> Generator[None]:
        """Within: `read` gives the last microbatch's own statistics. After: buffers are as they were before."""
        before = self.read()
        momenta = [layer.momentum for layer in self._layers]
        tracked = [_count(layer) for layer in self._layers]
        for layer in self._layers:
            layer.momentum = 1.0
        try:
            yield
        finally:
            for layer, momentum, count in zip(self._layers, momenta, tracked, strict=True):
                layer.momentum = momentum
                if layer.num_batches_tracked is not None:
                    layer.num_batches_tracked.fill_(count)
            self._write(before)

    def read(self) -> torch.Tensor:
        """float32 [width]: running means and variances of all layers, a copy."""
        buffers = self._present()
        return torch.cat([buffer.float() for buffer in buffers]) if buffers else torch.empty(0)

    def update(self, mean_statistics: torch.Tensor, skip: torch.Tensor) -> None:
        """Move the buffers towards the step's mean statistics [width]; where `skip` (bool scalar), leave them."""
        if not self._layers:
            return
        before = self.read()
        momentum = torch.cat(
            [
                torch.full((buffer.numel(),), layer.momentum or 0.0, device=buffer.device)
                for layer in self._layers
                for buffer in (layer.running_mean, layer.running_var)
                if buffer is not None
            ]
        )
        after = before + momentum * (mean_statistics.to(before.dtype) - before)
        self._write(torch.where(skip, before, after))
        for layer in self._layers:
            if layer.num_batches_tracked is not None:
                layer.num_batches_tracked.add_((~skip).to(layer.num_batches_tracked.dtype))

    def _present(self) -> list[torch.Tensor]:
        return [buffer for buffer in self._buffers if buffer is not None]

    @torch.no_grad()
    def _write(self, values: torch.Tensor) -> None:
        buffers = self._present()
        for buffer, part in zip(buffers, torch.split(values, [buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(part)


def _count(layer: _BatchNorm) -> int:
    return 0 if layer.num_batches_tracked is None else int(layer.num_batches_tracked)
