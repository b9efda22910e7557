"""The training loss, as a sum over samples: means are taken once, over the whole global batch."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from resnet_dist.config import TrainingConfig
from resnet_dist.training.mixing import Mix


@dataclass(frozen=True)
class Loss:
    """Cross entropy or focal loss of a microbatch, with what is switched on of the rest.

    In this order: logits are adjusted, each sample's loss is taken against its label, multiplied by its label's
    weight, and shared with its partner's label where samples are mixed. Validation uses plain cross entropy.
    """

    label_smoothing: float = 0.0
    """Share of the target spread evenly over the classes, in 0..1."""
    focal_gamma: float | None = None
    """Focal loss: the exponent of 1 - p, where p is the probability of the label; None: cross entropy."""
    class_weights: torch.Tensor | None = None
    """float32 [C]: what a sample's loss is multiplied by, by its label; the smoothed part of its target too."""
    adjustment: torch.Tensor | None = None
    """float32 [C]: what is added to the logits."""

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor, mix: Mix | None) -> torch.Tensor:
        """The sum over the microbatch, scalar float32. `logits` [B, C] any float dtype; `labels` int64 [B]."""
        return self.of_samples(logits, labels, mix).sum()

    def of_samples(self, logits: torch.Tensor, labels: torch.Tensor, mix: Mix | None) -> torch.Tensor:
        """float32 [B]: each sample's own.

        With a mix it is factor * loss(own label) + (1 - factor) * loss(partner's label), each loss with its own
        label's weight; for plain cross entropy this equals that against the mixed target (arXiv:1710.09412).
        """
        logits = logits.float()
        if self.adjustment is not None:
            logits = logits + self.adjustment
        own = self._of_labels(logits, labels)
        if mix is None:
            return own
        partners = self._of_labels(logits, labels[mix.partner])
        return mix.factor * own + (1.0 - mix.factor) * partners

    def _of_labels(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """float32 [B]."""
        losses = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)
        if self.focal_gamma is not None:
            # 1 - p from the loss itself keeps its digits where p is almost one. Where p is one in float32, a gamma
            # below one would have an infinite slope; what clamp cuts off has none.
            missing = -torch.expm1(-losses)
            losses = missing.clamp_min(torch.finfo(torch.float32).tiny) ** self.focal_gamma * losses
        return losses if self.class_weights is None else losses * self.class_weights[labels]


def build_loss(config: TrainingConfig, class_counts: NDArray[np.int64], device: torch.device) -> Loss:
    """The loss that `config` names. `class_counts`: int64 [C], images of each class in the training split.

    - label smoothing (arXiv:1512.00567);
    - focal loss (arXiv:1708.02002), (1 - p)^gamma times cross entropy, without its alpha, which class weights are;
    - balanced class weights n / (C * n_c), which over the training split are 1 on average;
    - logit adjustment (arXiv:2007.07314), tau * log(n_c / n) added to the logits while training only.

    Weights and adjustment have no value for a class without images. Data preparation refuses such a class, so a zero
    here is a mistake of the caller: ValueError.
    """
    if class_counts.ndim != 1 or not len(class_counts) or class_counts.min() < 1:
        raise ValueError(
            f"class_counts={class_counts.tolist()}: every class needs an image in the training split; count the "
            "labels of all its samples"
        )
    shares = class_counts / class_counts.sum()
    balanced, tau = config.class_weights == "balanced", config.logit_adjustment
    return Loss(
        label_smoothing=config.label_smoothing,
        # An exponent of zero is cross entropy, and is computed as such.
        focal_gamma=config.focal_gamma if config.loss == "focal" and config.focal_gamma else None,
        class_weights=_vector(1.0 / (len(shares) * shares), device) if balanced else None,
        adjustment=_vector(tau * np.log(shares), device) if tau else None,
    )


def _vector(values: NDArray[np.float64], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(values).to(device, torch.float32)
