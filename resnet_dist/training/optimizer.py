"""Optimizers, with a step that a flag on the device can leave out."""

from typing import assert_never

import torch
from torch import nn

from resnet_dist.config import OptimizerConfig
from resnet_dist.model.freezing import stage_learning_rates

RATE_SHARE = "rate_share"
"""Key of a parameter group: its learning rate over the schedule's."""


def build_optimizer(suffix: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that are trained; no weight decay on biases and norms (one-dimensional).

    With `config.stage_decay` below 1 each stage has groups of its own, whose rates fall towards the image.
    """
    named = [(name, parameter) for name, parameter in suffix.named_parameters() if parameter.requires_grad]
    trained = [parameter for _, parameter in named]
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    names = [name for name, _ in named]
    shares = stage_learning_rates(names, config.stage_decay) if config.stage_decay < 1.0 else dict.fromkeys(names, 1.0)
    for name, parameter in named:
        share = shares[name]
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        members.setdefault((share, decay), []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, RATE_SHARE: share}
        for (share, decay), parameters in members.items()
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


def set_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The schedule's rate for the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group[RATE_SHARE]


def step_unless(optimizer: torch.optim.Optimizer, skip: torch.Tensor) -> None:
    """One step, or none where `skip` (bool scalar on the parameters' device) says so, without asking the device.

    The fused optimizers honour `found_inf`, the flag that GradScaler hands them (torch.amp.GradScaler.step).
    """
    optimizer.found_inf = skip.to(torch.float32)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # pyright: ignore[reportAttributeAccessIssue]
