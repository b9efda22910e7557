"""The training loss, as a sum over samples: means are taken once, over the whole global batch."""

import torch
from torch.nn import functional

from resnet_dist.training.mixing import Mix


def loss_sum(logits: torch.Tensor, labels: torch.Tensor, mix: Mix | None, label_smoothing: float) -> torch.Tensor:
    """Cross entropy summed over a microbatch, scalar float32. `logits` [B, C] any float dtype; `labels` int64 [B].

    With a mix, each sample's loss is shared between its own label and its partner's by its factor, which equals
    cross entropy against the mixed target (arXiv:1710.09412).
    """
    logits = logits.float()
    own = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    if mix is None:
        return own.sum()
    partners = functional.cross_entropy(logits, labels[mix.partner], reduction="none", label_smoothing=label_smoothing)
    return (mix.factor * own + (1.0 - mix.factor) * partners).sum()
