"""Puts together what training needs, and takes it apart again where the frozen stages change by epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnet_dist.compression.distillation.student_loss import Distillation
from resnet_dist.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from resnet_dist.features.reuse import FeatureReuse
from resnet_dist.model.activation_checkpointing import checkpoint_blocks
from resnet_dist.model.compiling import compile_parts
from resnet_dist.model.config import FreezingConfig, ModelConfig, Policies, freezing_phases
from resnet_dist.model.pointwise import use_onednn
from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.trunk import Suffix, Trunk, split
from resnet_dist.quantisation.range_setting import RangeSetting
from resnet_dist.training.batch_norm import RunningStatistics
from resnet_dist.training.early_stopping import stopping_of
from resnet_dist.training.ema import Ema
from resnet_dist.training.loss_scale import LossScale
from resnet_dist.training.losses import build_loss
from resnet_dist.training.optimizer import build_optimizer
from resnet_dist.training.out_of_memory import largest_that_fits
from resnet_dist.training.precision import autocast, autocast_dtype
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.reduction import build_reduction
from resnet_dist.training.schedules import Plateau, learning_rate
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import Draw, Recipe


def policies_at(freezing: FreezingConfig, epoch: int) -> Policies:
    """What is frozen in an epoch."""
    return [policies for first, policies in freezing_phases(freezing) if first <= epoch][-1]


@dataclass
class Setup:
    """How the state and the recipe of each epoch are made; `model` is on its device, channels_last."""

    model: ResNetClassifier
    config: ModelConfig
    freezing: FreezingConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    schedule_epochs: int
    """Epochs that the schedule spans."""
    training: TrainingConfig
    class_counts: NDArray[np.int64]
    """[C] images of each class in the training split."""
    input_size: tuple[int, int]
    """Height and width of images."""
    draw: Draw
    group: RankGroup
    device: torch.device
    reuse: FeatureReuse | None = None
    """Where features of the frozen stages are kept for other trainings; None: nowhere."""
    distillation: Distillation | None = None
    """The teacher, on the same device, and how to learn from it; None: labels are all there is."""
    ranges: RangeSetting | None = None
    """When the ranges of a network that learns in 8 bits are set; None of one in floating point."""
    _built: tuple[Policies, Recipe] | None = field(default=None, init=False)

    def state_at(
        self, epoch: int, plateau: Mapping[str, Any] | None = None, early_stopping: Mapping[str, Any] | None = None
    ) -> TrainState:
        """The state in an epoch, with nothing learnt yet but the model's weights.

        `plateau`, `early_stopping`: what their `to_json` gave in the run's past; None where it has none. Raises
        ValueError for anything else.
        """
        trunk, suffix = self._split(policies_at(self.freezing, epoch))
        return TrainState(
            model=self.model,
            trunk=trunk,
            suffix=suffix,
            optimizer=build_optimizer(suffix, self.optimizer),
            ema=self._ema(suffix),
            scale=LossScale(self.device, enabled=self.training.precision == "fp16"),
            plateau=Plateau(self.schedule, self.schedule_epochs)
            if plateau is None
            else Plateau.from_json(plateau, self.schedule, self.schedule_epochs),
            stopping=stopping_of(self.training, early_stopping),
            epoch=epoch,
        )

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """Of an optimizer step, counted from 0 over the whole run, before a plateau's share."""
        return learning_rate(self.schedule, self.optimizer.learning_rate, step, steps_per_epoch, self.schedule_epochs)

    def begin_epoch(self, state: TrainState) -> Recipe:
        """The recipe of the state's epoch. Where other stages are trained from it on, the state gets its parts anew
        and keeps what it knows of parameters that were trained before. Collective.
        """
        policies = policies_at(self.freezing, state.epoch)
        if self._built is None or self._built[0] != policies:
            if self._built is not None:
                self._change(state, policies)
            self._built = policies, self._recipe(state)
        if self.reuse is not None:
            self.reuse.begin(state.trunk)
        if self.distillation is not None:
            self.distillation.begin_epoch()
        if self.ranges is not None:
            self.ranges.begin_epoch(self.model, state.epoch, state.step_in_epoch, self.group)
        return self._built[1]

    def fitting_microbatch(self, epoch: int, microbatch_size: int) -> int:
        """The largest microbatch size, halved from `microbatch_size`, that fits into every rank's memory. Collective.

        Tried with what is trained from `epoch` on when most is. To be asked before `state_at`, whose parts it would
        change; leaves no trace in the model. Raises RunError where none fits.
        """
        phases = [
            policies for first, policies in freezing_phases(self.freezing) if epoch < first < self.training.epochs
        ]
        trunk, suffix = self._split(min([policies_at(self.freezing, epoch), *phases], key=lambda p: p.count("frozen")))
        statistics = RunningStatistics(suffix)
        dtype = autocast_dtype(self.training.precision)

        def attempt(size: int) -> None:
            images = self._blank(size)
            try:
                with statistics.of_microbatches(), autocast(self.device, dtype):
                    if self.distillation is not None:
                        self.distillation.teacher.answer(images)
                    features = images if trunk is None else trunk(images)
                    suffix(features).float().sum().backward()  # pyright: ignore[reportUnknownMemberType]
            finally:
                for parameter in suffix.parameters():
                    parameter.grad = None

        return largest_that_fits(microbatch_size, self.training.global_batch_size, self.group, self.device, attempt)

    def _change(self, state: TrainState, policies: Policies) -> None:
        moments = state.training_state()["optimizer"]["state"]
        averages = {} if state.ema is None else state.ema.averages
        state.trunk, state.suffix = self._split(policies)
        state.optimizer = build_optimizer(state.suffix, self.optimizer)
        state.take_moments(moments)
        state.ema = self._ema(state.suffix)
        if state.ema is not None:
            state.ema.averages |= {name: value for name, value in averages.items() if name in state.ema.averages}

    def _split(self, policies: Policies) -> tuple[Trunk | None, Suffix]:
        teacher = None if self.distillation is None else self.distillation.teacher.network
        if self.device.type == "cpu":
            use_onednn(self.model, self.training)
            if teacher is not None:
                use_onednn(teacher, self.training)
        trunk, suffix = split(self.model, policies)
        suffix.train()
        if self.training.activation_checkpointing:
            checkpoint_blocks(suffix)
        if self.training.compile:
            compile_parts(trunk, suffix, teacher)
        return trunk, suffix

    def _ema(self, suffix: Suffix) -> Ema | None:
        return None if self.training.ema_decay is None else Ema(suffix, self.training.ema_decay)

    def _recipe(self, state: TrainState) -> Recipe:
        return Recipe(
            group=self.group,
            reduction=build_reduction(
                self.training.reduction or "exact", state.suffix, self.group, lambda: state.features(self._blank(2))
            ),
            statistics=RunningStatistics(state.suffix),
            draw=self.draw,
            dropout=self.config.dropout,
            loss=build_loss(self.training, self.class_counts, self.device),
            mixup_alpha=self.training.mixup_alpha,
            cutmix_alpha=self.training.cutmix_alpha,
            clip_norm=self.optimizer.clip_norm,
            autocast=autocast_dtype(self.training.precision),
            reuse=self.reuse,
            distillation=self.distillation,
        )

    def _blank(self, samples: int) -> torch.Tensor:
        dtype = next(self.model.parameters()).dtype
        images = torch.zeros((samples, 3, *self.input_size), device=self.device, dtype=dtype)
        return images.to(memory_format=torch.channels_last)
