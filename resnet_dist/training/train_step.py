"""One optimizer step: a global batch, in microbatches, on all ranks."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_dist.compression.distillation.student_loss import Distillation
from resnet_dist.features.reuse import FeatureReuse
from resnet_dist.training.batch_norm import RunningStatistics
from resnet_dist.training.dropout import keep_mask, words_needed
from resnet_dist.training.losses import Loss
from resnet_dist.training.mixing import MIXING_WORDS, Mix, mix_for, pair_keys
from resnet_dist.training.optimizer import set_rate, step_unless
from resnet_dist.training.precision import autocast
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.reduction import Reduction
from resnet_dist.training.source import Microbatch, Step
from resnet_dist.training.state import TrainState
from resnet_dist.training.wait_clock import WaitClock


class Draw(Protocol):
    """Random bits as a pure function of its arguments and the job's seed."""

    def __call__(
        self, purpose: Literal["dropout", "mixing"], epoch: int, keys: NDArray[np.uint64], count: int
    ) -> NDArray[np.uint64]:
        """uint64 [len(keys), count]."""
        ...


@dataclass(frozen=True)
class Recipe:
    """What a step does besides the state it changes."""

    group: RankGroup
    reduction: Reduction
    statistics: RunningStatistics
    draw: Draw
    dropout: float
    loss: Loss
    mixup_alpha: float
    cutmix_alpha: float
    clip_norm: float | None
    autocast: torch.dtype | None
    """bfloat16 or float16 for autocast, None for float32 throughout."""
    reuse: FeatureReuse | None = None
    """Where features of a frozen trunk are kept for other trainings; None: nowhere."""
    distillation: Distillation | None = None
    """What is learnt from a teacher; None: labels are all there is."""


@dataclass(frozen=True)
class StepTotals:
    """Sums over the samples of one or more global batches, on the device; divide at the end."""

    loss: torch.Tensor
    correct: torch.Tensor
    samples: int
    gradient_norm: torch.Tensor
    """L2 norm of the step's gradient before clipping; the sum of them over several steps."""
    skipped: torch.Tensor
    """Steps left out because a loss or gradient was not finite."""
    learning_rate: float
    """What was applied in the last of the steps, the plateau's factor included."""
    steps: int = 1

    def __add__(self, other: "StepTotals") -> "StepTotals":
        """The sums over both, `other` being the later one."""
        return StepTotals(
            loss=self.loss + other.loss,
            correct=self.correct + other.correct,
            samples=self.samples + other.samples,
            gradient_norm=self.gradient_norm + other.gradient_norm,
            skipped=self.skipped + other.skipped,
            learning_rate=other.learning_rate,
            steps=self.steps + other.steps,
        )

    def metrics(self) -> dict[str, float]:
        """Plain numbers: the one place that waits for the device."""
        return {
            "train/loss": float(self.loss) / self.samples,
            "train/top1": float(self.correct) / self.samples,
            "train/gradient_norm": float(self.gradient_norm) / self.steps,
            "train/skipped_steps": float(self.skipped),
        }


def train_step(
    state: TrainState, recipe: Recipe, step: Step, learning_rate: float, clock: WaitClock | None = None
) -> StepTotals:
    """Move `state` by one global batch. Collective: every rank calls it for every step. `clock` times its microbatches.

    A step with a loss or gradient that is not finite leaves weights, BatchNorm, optimizer and EMA untouched: all
    ranks see the same sums, so they agree without asking.
    """
    group, reduction, clock = recipe.group, recipe.reduction, clock or WaitClock()
    owned = group.owned(step.microbatch_count)
    loss_scale = state.scale.scale(torch.ones((), device=next(state.suffix.parameters()).device))
    records: list[torch.Tensor] = []
    with recipe.statistics.of_microbatches():
        for position, microbatch in enumerate(clock.timed(step.microbatches)):
            with reduction.microbatch(last=position == owned - 1):
                loss, correct = _forward(state, recipe, step.index, microbatch, clock.latest)
                share = loss * (reduction.weight / step.samples)
                state.scale.scale(share).backward()  # pyright: ignore[reportUnknownMemberType]
            reduction.collect(loss_scale)
            records.append(_record(microbatch, loss, correct, recipe.statistics))
        if not owned:
            reduction.idle()
    reduction.finish()
    state.scale.unscale(state.optimizer)
    sums, statistics = _in_global_order(group, records, step, recipe.statistics.width, state)

    parameters = [parameter for parameter in state.suffix.parameters() if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    skip = ~(torch.isfinite(norm) & torch.isfinite(sums[0]))
    if recipe.clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, recipe.clip_norm, norm)
    set_rate(state.optimizer, learning_rate)
    step_unless(state.optimizer, skip)
    state.scale.update()
    for parameter in parameters:
        parameter.grad = None
    recipe.statistics.update(statistics, skip)
    if state.ema is not None:
        state.ema.update(state.step, skip)
    # An overflow is how a loss scale finds its height; one at a scale of 1 is as bad as a loss that is not finite.
    poisoned = (skip & (~torch.isfinite(sums[0]) | (loss_scale <= 1.0))).float()
    state.skipped_in_a_row = (state.skipped_in_a_row.to(poisoned.device) + 1.0) * poisoned
    state.step += 1
    state.step_in_epoch += 1
    return StepTotals(
        loss=sums[0],
        correct=sums[1],
        samples=step.samples,
        gradient_norm=norm,
        skipped=skip.to(torch.float32),
        learning_rate=learning_rate,
    )


def _forward(
    state: TrainState, recipe: Recipe, step: int, microbatch: Microbatch, waited: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss summed over the microbatch, which was `waited` for, and the number of right answers, scalars."""
    mix, keep = _mix(state, recipe, microbatch), _keep(state, recipe, microbatch)
    features = microbatch.features
    images = microbatch.images if mix is None or features is not None else mix.images(microbatch.images)
    place, teaching = (state.epoch, step, microbatch.index), recipe.distillation
    answer, outputs = None, dict[str, torch.Tensor]()
    with autocast(images.device, recipe.autocast):
        if teaching is not None:
            # Without a trunk the images are needed anyway: an answer that is known saves no waiting for them.
            answer = teaching.answer(place, images, 0.0 if state.trunk is None else waited)
        if features is None and recipe.reuse is not None:
            features = recipe.reuse.of_microbatch(*place, lambda: state.features(images), waited)
        features = state.features(images) if features is None else features
        if teaching is not None and teaching.needs_stages:
            logits, outputs = recipe.reduction.module(features, keep, with_stages=True)
        else:
            logits = recipe.reduction.module(features, keep)
    losses = recipe.loss.of_samples(logits, microbatch.labels, mix)
    if teaching is not None and answer is not None:
        losses = teaching.losses(losses, logits, answer, mix, outputs)
    return losses.sum(), (logits.detach().argmax(1) == microbatch.labels).sum()


def _mix(state: TrainState, recipe: Recipe, microbatch: Microbatch) -> Mix | None:
    if not recipe.mixup_alpha and not recipe.cutmix_alpha:
        return None
    bits = recipe.draw("mixing", state.epoch, pair_keys(microbatch.keys), MIXING_WORDS)
    samples, images = len(microbatch.keys), microbatch.images
    height, width = images.shape[2:]
    return mix_for(recipe.mixup_alpha, recipe.cutmix_alpha, bits, samples, height, width, images.device)


def _keep(state: TrainState, recipe: Recipe, microbatch: Microbatch) -> torch.Tensor | None:
    if not recipe.dropout:
        return None
    features = state.model.fc.in_features
    bits = recipe.draw("dropout", state.epoch, microbatch.keys, words_needed(features))
    return keep_mask(bits, features, recipe.dropout).to(microbatch.images.device)


def _record(
    microbatch: Microbatch, loss: torch.Tensor, correct: torch.Tensor, statistics: RunningStatistics
) -> torch.Tensor:
    """float32 [3 + width]: what all ranks must know of a microbatch."""
    sums = torch.stack([loss.new_tensor(len(microbatch.keys)), loss.detach(), correct.to(loss.dtype)])
    return torch.cat([sums, statistics.read().to(sums.device)])


def _in_global_order(
    group: RankGroup, records: list[torch.Tensor], step: Step, width: int, state: TrainState
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums (loss, correct) float64 [2] and mean BatchNorm statistics float64 [width] over the step's microbatches.

    Added one by one in their global order, so that the result is the same however they were spread over ranks.
    """
    device = next(state.suffix.parameters()).device
    most = -(-step.microbatch_count // group.world_size)
    mine = torch.zeros((most, 3 + width), device=device)
    if records:
        mine[: len(records)] = torch.stack(records)
    every = group.gather(mine).to(torch.float64)
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    statistics = torch.zeros(width, dtype=torch.float64, device=device)
    for index in range(step.microbatch_count):
        record = every[index % group.world_size, index // group.world_size]
        sums += record[1:3]
        statistics += record[3:] * (record[0] / step.samples)
    return sums, statistics
