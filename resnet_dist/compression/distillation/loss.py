"""The loss of a student: of the labels, of the teacher's answers, and of the distance between attention maps."""

from collections.abc import Mapping

import torch
from torch.nn import functional

from resnet_dist.compression.config import DistillationConfig
from resnet_dist.compression.distillation.attention import attention_map
from resnet_dist.training.mixing import Mix


def distilled(
    config: DistillationConfig,
    label_losses: torch.Tensor,
    logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    mix: Mix | None,
) -> torch.Tensor:
    """float32 [B]: (1 - weight) * label loss + weight * T^2 * KL(teacher, student), of each sample (arXiv:1503.02531).

    `label_losses` float32 [B]; `logits` [B, C] of the student, any float dtype; `teacher_logits` [B, C]. The factor
    T^2 keeps the gradient's size where the temperature changes. A sample with a partner other than itself has weight 1:
    what the teacher sees in a mixed image says more than the shares of two labels (arXiv:2106.05237).
    """
    student = functional.log_softmax(logits.float() / config.temperature, dim=1)
    teacher = functional.log_softmax(teacher_logits.float() / config.temperature, dim=1)
    divergence = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    weight = torch.full_like(label_losses, config.weight)
    if mix is not None:
        is_mixed = mix.partner != torch.arange(len(mix.partner), device=mix.partner.device)
        weight = weight.masked_fill(is_mixed, 1.0)
    return (1.0 - weight) * label_losses + weight * (config.temperature**2 * divergence)


def map_distances(
    outputs: Mapping[str, torch.Tensor], teacher_maps: Mapping[str, torch.Tensor]
) -> torch.Tensor | float:
    """float32 [B]: the squared L2 distance of attention maps of each sample, summed over the stages in `outputs`.

    `outputs`: what stages of the student give, [B, C, h, w]; `teacher_maps`: float32 [B, h * w] by the same names.
    """
    distances = [(attention_map(output) - teacher_maps[stage]).square().sum(1) for stage, output in outputs.items()]
    return sum(distances, start=0.0)
