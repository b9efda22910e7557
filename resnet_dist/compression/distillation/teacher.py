"""The teacher: a trained network that answers and never changes."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn

from resnet_dist.compression.distillation.attention import STAGES, attention_map
from resnet_dist.model.model_json import restored
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.trunk import Suffix, fold_batch_norm


class Teacher(nn.Module):
    """A copy of a network in evaluation mode, its BatchNorm folded into the convolutions, channels_last.

    With `with_maps` it also gives its attention maps. Microbatches are as large at every number of workers, so its
    answers to a microbatch do not depend on that number.
    """

    def __init__(self, model: ResNetClassifier, *, with_maps: bool = False) -> None:
        super().__init__()
        stages = {name: module for name, module in model.named_children() if name != "fc"}
        self.network = fold_batch_norm(Suffix(stages, model.fc)).requires_grad_(False)
        self.with_maps = with_maps
        self.eval()

    @classmethod
    def rebuilt(
        cls, description: dict[str, Any], weights: Mapping[str, torch.Tensor], *, with_maps: bool = False
    ) -> Self:
        """From a checkpoint's model.json and weights. Raises RunError for a network that this version cannot build."""
        return cls(restored(description, weights), with_maps=with_maps)

    def answer(self, images: torch.Tensor) -> torch.Tensor:
        """float32 [B, classes] of images float32 [B, 3, height, width]: logits, under the caller's autocast.

        With maps [B, classes + positions]: those of `STAGES` follow, one behind the other.
        """
        with torch.inference_mode():
            if self.with_maps:
                logits, outputs = self.network(images, with_stages=True)
                answer = torch.cat([logits.float(), *(attention_map(outputs[stage]) for stage in STAGES)], dim=1)
            else:
                answer = self.network(images).float()
        # Autograd refuses to save what inference mode has made. A copy made outside of it is a tensor like any other.
        return answer.clone()

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002 - a teacher is never trained
        """Stays in evaluation mode."""
        return super().train(False)

    def extra_repr(self) -> str:
        """What its layers do not tell."""
        return f"with_maps={self.with_maps}"
