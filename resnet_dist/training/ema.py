"""An exponential moving average of the weights."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn


class Ema:
    """Averages of a module's trained parameters, by name; BatchNorm's running statistics are averages already."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.averages = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int, skip: torch.Tensor) -> None:
        """Move towards the weights after step `step` (from 0), or not at all where `skip` (bool scalar) says so.

        The decay rises with the steps, min(decay, (1 + step) / (10 + step)), so that the random first weights fade.
        """
        rate = 1.0 - min(self._decay, (1 + step) / (10 + step))
        averages = list(self.averages.values())
        towards = torch._foreach_sub(list(self._parameters.values()), averages)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
        torch._foreach_mul_(towards, (~skip).to(torch.float32) * rate)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
        torch._foreach_add_(averages, towards)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]

    @contextmanager
    def applied(self) -> Generator[None]:
        """Within, the module's weights are the averages."""
        weights = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._assign(self.averages)
        try:
            yield
        finally:
            self._assign(weights)

    @torch.no_grad()
    def _assign(self, values: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
