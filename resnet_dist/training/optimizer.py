"""Optimizers, with a step that a flag on the device can leave out."""

from typing import assert_never

import torch
from torch import nn

from resnet_dist.config import OptimizerConfig


def build_optimizer(suffix: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that are trained; no weight decay on biases and norms (one-dimensional)."""
    trained = [parameter for parameter in suffix.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    match config.kind:
        case "sgd":
            optimizer = torch.optim.SGD(
                groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.nesterov, fused=True
            )
            if config.momentum:
                # A first step that is left out would leave the lazily made buffers uninitialised; zero is what a
                # first step starts from.
                for parameter in trained:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            return optimizer
        case "adamw":
            return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)
        case _:
            assert_never(config.kind)


def step_unless(optimizer: torch.optim.Optimizer, skip: torch.Tensor) -> None:
    """One step, or none where `skip` (bool scalar on the parameters' device) says so, without asking the device.

    The fused optimizers honour `found_inf`, the flag that GradScaler hands them (torch.amp.GradScaler.step).
    """
    optimizer.found_inf = skip.to(torch.float32)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # pyright: ignore[reportAttributeAccessIssue]
