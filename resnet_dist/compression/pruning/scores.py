"""How much each channel and each block counts: the Taylor score at the BatchNorm gate (arXiv:1906.10771).

A channel that BatchNorm gives with scale g and shift b is removed by g = b = 0. To first order this changes the loss
by -(g * dL/dg + b * dL/db); the score is the mean of its square over microbatches.
"""

import math
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resnet_dist.compression.pruning.channels import Channels, identity_blocks, summed_over_norms
from resnet_dist.errors import RunError
from resnet_dist.model.resnet import ResNetClassifier

SummedLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of logits [B, classes] and labels int64 [B]: the sum over the microbatch, a scalar."""


@dataclass(frozen=True, eq=False)
class Scores(Channels[np.float64]):
    """Of channels, and of whole residual branches; all are at least 0, in squares of the loss of a microbatch."""

    branches: dict[str, float]
    """By name, such as layer1.1, of each block that can be left out: what its residual branch counts."""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed, in float32."""
    return nn.functional.cross_entropy(logits.float(), labels, reduction="sum")


def channel_scores(
    model: ResNetClassifier,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    loss: SummedLoss = cross_entropy,
) -> Scores:
    """The scores over microbatches of images float32 [B, 3, height, width] and labels int64 [B], on any device.

    BatchNorm uses its running statistics. The sums over microbatches are exactly rounded, so that neither the order of
    the microbatches nor who computed them matters; for that, 8 bytes a channel and microbatch are held. On a CPU, other
    numbers of threads round otherwise. The model is left as it was. Raises ValueError where there is no microbatch, and
    RunError for gradients that are not finite.
    """
    parts = cast("Iterable[tuple[str, nn.Module]]", model.named_modules())
    norms = {name: part for name, part in parts if isinstance(part, nn.BatchNorm2d)}
    branches = dict(identity_blocks(model.structure))
    channels: dict[str, list[NDArray[np.float64]]] = {name: [] for name in norms}
    with _differentiable(model, norms.values()):
        for images, labels in batches:
            for name, change in _changes(model, norms, images, labels, loss).items():
                channels[name].append(change)
    if not next(iter(channels.values())):
        raise ValueError("channels are scored by at least one microbatch; there is none")
    means = {name: _mean_squares(np.stack(changes)) for name, changes in channels.items()}
    found = summed_over_norms(model.structure, means.__getitem__)
    of_branches = {
        block: float(_mean_squares(np.stack(channels[norm]).sum(1, keepdims=True))[0])
        for block, norm in branches.items()
    }
    return Scores(found.streams, found.inner, found.own_stem, of_branches)


def _changes(
    model: ResNetClassifier,
    norms: dict[str, nn.BatchNorm2d],
    images: torch.Tensor,
    labels: torch.Tensor,
    loss: SummedLoss,
) -> dict[str, NDArray[np.float64]]:
    """g * dL/dg + b * dL/db of each channel of each BatchNorm layer, for one microbatch."""
    device = model.fc.weight.device
    parameters = [parameter for norm in norms.values() for parameter in (norm.weight, norm.bias)]
    total = loss(model(images.to(device)), labels.to(device))
    gradients = torch.autograd.grad(total, parameters)
    products = [
        (parameter.detach().double() * gradient.double()).cpu().numpy()
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]
    changes = {name: products[2 * place] + products[2 * place + 1] for place, name in enumerate(norms)}
    for name, change in changes.items():
        if not np.isfinite(change).all():
            raise RunError(
                f"gradients at {name} are not finite on a microbatch of {len(labels)} images with a loss of "
                f"{float(total.detach()):g}; scores need finite ones: take a checkpoint from before training diverged"
            )
    return changes


def _mean_squares(changes: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [width] of float64 [microbatches, width]; sums are exactly rounded, so that their order is free."""
    sums = [math.fsum(column) for column in np.square(changes).T.tolist()]
    return np.array(sums, dtype=np.float64) / len(changes)


@contextmanager
def _differentiable(model: ResNetClassifier, norms: Iterable[nn.BatchNorm2d]) -> Generator[None]:
    """Within: evaluation mode, and gradients for BatchNorm alone, that of frozen stages too. After: as before."""
    modes = [(part, part.training) for part in model.modules()]
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    for norm in norms:
        norm.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, requires in required:
            parameter.requires_grad_(requires)
