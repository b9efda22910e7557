"""BatchNorm's running statistics taken anew: a network that was cut has others than the one they were collected in."""

from collections.abc import Iterable

import torch
from torch import nn

from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.training.batch_norm import RunningStatistics


@torch.no_grad()
def reestimate(model: ResNetClassifier, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Replace the running mean and variance of every BatchNorm layer by those of the microbatches.

    These are the sample-weighted means, summed in float64 in the order of the microbatches, of each microbatch's own
    mean and unbiased variance: what training's running statistics tend to. All layers take theirs in one forward pass a
    microbatch, normalising as in training. Microbatches are images float32 [B, 3, height, width] and labels int64 [B],
    which are not used. Modes and counters are left as they were. Raises ValueError where there is no microbatch; torch
    raises it for one that gives a layer a single number a channel, which has no variance.
    """
    device = model.fc.weight.device
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.train()
    try:
        statistics = RunningStatistics(model)
        total, samples = torch.zeros(statistics.width, dtype=torch.float64, device=device), 0
        with statistics.of_microbatches():
            for images, _ in batches:
                model(images.to(device))
                total += statistics.read().double() * len(images)
                samples += len(images)
        if not samples:
            raise ValueError("running statistics are taken from at least one microbatch; there is none")
        statistics.write(total / samples)
    finally:
        for part, mode in modes:
            part.training = mode
