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
    """The running statistics of a module's trained BatchNorm layers, as one vector of `width` numbers.

    Raises ValueError for a layer that keeps none.
    """

    def __init__(self, module: nn.Module) -> None:
        self._layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
        self._buffers: list[torch.Tensor] = []
        self._counts: list[torch.Tensor] = []
        momenta: list[torch.Tensor] = []
        for layer in self._layers:
            mean, variance, count = layer.running_mean, layer.running_var, layer.num_batches_tracked
            if mean is None or variance is None or count is None or layer.momentum is None:
                raise ValueError(f"{layer} keeps no running average; give it track_running_stats and a momentum")
            self._buffers += [mean, variance]
            self._counts.append(count)
            momenta += [torch.full_like(mean, layer.momentum)] * 2
        self._momenta = torch.cat(momenta) if momenta else torch.empty(0)
        self.width = self._momenta.numel()

    @contextmanager
    def of_microbatches(self) -> Generator[None]:
        """Within: `read` gives the last microbatch's own statistics. After: buffers are as they were before."""
        before = self.read()
        momenta = [layer.momentum for layer in self._layers]
        counts = [count.clone() for count in self._counts]
        for layer in self._layers:
            layer.momentum = 1.0
        try:
            yield
        finally:
            for layer, momentum in zip(self._layers, momenta, strict=True):
                layer.momentum = momentum
            for count, counted in zip(self._counts, counts, strict=True):
                count.copy_(counted)
            self.write(before)

    def read(self) -> torch.Tensor:
        """float32 [width]: running means and variances of all layers, a copy."""
        return torch.cat([buffer.float() for buffer in self._buffers]) if self._buffers else torch.empty(0)

    def update(self, mean_statistics: torch.Tensor, skip: torch.Tensor) -> None:
        """Move the buffers towards the step's mean statistics [width]; where `skip` (bool scalar), leave them."""
        if not self._layers:
            return
        before = self.read()
        after = before + self._momenta * (mean_statistics.to(before.dtype) - before)
        self.write(torch.where(skip, before, after))
        for count in self._counts:
            count.add_((~skip).to(count.dtype))

    @torch.no_grad()
    def write(self, values: torch.Tensor) -> None:
        """Replace the running means and variances by `values` [width], what `read` gives."""
        parts = torch.split(values, [buffer.numel() for buffer in self._buffers])
        for buffer, part in zip(self._buffers, parts, strict=True):
            buffer.copy_(part)
