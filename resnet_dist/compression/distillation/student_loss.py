"""What a student learns from a teacher besides the labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from resnet_dist.compression.config import DistillationConfig
from resnet_dist.compression.distillation.attention import STAGES, map_sizes
from resnet_dist.compression.distillation.loss import distilled, map_distances
from resnet_dist.compression.distillation.teacher import Teacher
from resnet_dist.features.answers import Place, SharedAnswers
from resnet_dist.training.mixing import Mix


@dataclass(frozen=True)
class Distillation:
    """A teacher on the student's device, and how the student learns from it.

    The teacher sees the student's microbatches as the student does, after mixing: the same view of each image
    (arXiv:2106.05237). The attention maps of frozen stages cannot change, so only those of trained stages count.
    """

    config: DistillationConfig
    teacher: Teacher
    input_size: tuple[int, int]
    """Height and width of images."""
    shared: SharedAnswers | None = None
    """Where answers are kept for other trainings; None: nowhere."""

    def begin_epoch(self) -> None:
        """Once the student's trunk is that of the epoch."""
        if self.shared is not None:
            self.shared.begin(self.teacher)

    def answer(self, place: Place, images: torch.Tensor, waited: float) -> torch.Tensor:
        """The teacher's answer to a microbatch of `images`, as `Teacher.answer` gives it, perhaps computed before.

        `images`: [B, 3, height, width] as the student sees them, which took `waited` seconds; with B = 0 where the
        source found all that it asked `shared` for. Raises RuntimeError where it did not.
        """

        def compute() -> torch.Tensor:
            if not len(images):
                raise RuntimeError(
                    f"the microbatch at {place} has features, no images and no answer of the teacher; sources must ask "
                    "SharedAnswers, which gives features only with answers"
                )
            return self.teacher.answer(images)

        return compute() if self.shared is None else self.shared.of_microbatch(place, compute, waited)

    @property
    def needs_stages(self) -> bool:
        """Whether the loss needs what the student's stages give."""
        return self.teacher.with_maps

    def losses(
        self,
        label_losses: torch.Tensor,
        logits: torch.Tensor,
        answer: torch.Tensor,
        mix: Mix | None,
        outputs: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """float32 [B] of a microbatch whose losses against the labels are `label_losses` float32 [B].

        `logits` [B, C] are the student's and `answer` the teacher's; `outputs` has what the student's trained stages
        among `STAGES` give, [B, channels, h, w], and is empty where maps are not compared.
        """
        losses = distilled(self.config, label_losses, logits, answer[:, : logits.shape[1]], mix)
        if not self.needs_stages:
            return losses
        sizes = map_sizes(*self.input_size)
        maps = torch.split(answer[:, logits.shape[1] :], [sizes[stage] for stage in STAGES], dim=1)
        return losses + self.config.features * map_distances(outputs, dict(zip(STAGES, maps, strict=True)))
