"""Training steps as the library makes them, over batches that are on the device already."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from benchmarks.gpu_measuring import Settings, Switches, Variant, compiled
from data_pipeline.sources.batches import ImageMicrobatch, ImageStep
from data_pipeline.views.randomness import SeededDraw
from resnet_dist.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from resnet_dist.model.config import FreezingConfig, ModelConfig
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import Trunk, split
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.setup import Setup
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import Recipe, train_step

CLASSES = 1000
LEARNING_RATE = 0.01
_BATCHES = 2


@dataclass(frozen=True)
class Job:
    """What a step does; the defaults are full fine-tuning in bf16."""

    freeze_depth: int = 0
    bf16: bool = True
    compiled: bool = False
    cached: bool = False
    """The trunk's features are there already: only the suffix is computed."""
    ema_decay: float | None = None
    label_smoothing: float = 0.0
    mixup_alpha: float = 0.0
    clip_norm: float | None = None
    checkpointing: bool = False
    reduction: Literal["exact", "overlapped"] = "overlapped"
    """The library's default on GPUs."""
    classes: int = CLASSES
    switches: Switches = field(default_factory=Switches)


class ResidentSource:
    """A source of batches that wait on the device, one microbatch a step: nothing is loaded while it is timed."""

    def __init__(self, batches: list[ImageMicrobatch]) -> None:
        self._batches = batches
        self.steps_per_epoch = len(batches)
        self.nbytes = sum(batch.images.nbytes + batch.labels.nbytes for batch in batches)
        self.batch = len(batches[0].keys)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ImageStep]:  # noqa: ARG002 - all epochs are alike
        """The batches, each a step."""
        for index, batch in enumerate(self._batches[first_step:], first_step):
            yield ImageStep(index, len(batch.keys), 1, iter([batch]))

    def forever(self) -> Iterator[ImageStep]:
        """Epoch after epoch."""
        return itertools.chain.from_iterable(self.epoch(epoch) for epoch in itertools.count())

    def features(self, trunk: Trunk, bf16: bool) -> "ResidentSource":
        """What the trunk makes of each batch, in the dtype in which training meets it."""
        made = []
        for batch in self._batches:
            with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=bf16):
                made.append(ImageMicrobatch(batch.index, trunk(batch.images), batch.labels, batch.keys))
        return ResidentSource(made)

    @property
    def bytes_per_sample(self) -> float:
        """Of images or features, without labels."""
        images = self._batches[0].images
        return images.nbytes / len(images)


def noise(settings: Settings, batch: int) -> ResidentSource:
    """Standard normal float32 images [batch, 3, size, size], channels_last, with labels in turn."""
    generator = torch.Generator(settings.device).manual_seed(0)
    shape = (batch, 3, settings.image_size, settings.image_size)
    batches = []
    for index in range(_BATCHES):
        images = torch.randn(shape, generator=generator, device=settings.device)
        labels = torch.arange(batch, device=settings.device) % CLASSES
        keys = np.arange(batch, dtype=np.uint64) + np.uint64(index * batch)
        batches.append(ImageMicrobatch(0, images.to(memory_format=torch.channels_last), labels, keys))
    return ResidentSource(batches)


def make_training(settings: Settings, job: Job, idle_images: torch.Tensor) -> tuple[TrainState, Recipe]:
    """A worker's state and recipe, with weights of the images' dtype and on their device.

    `idle_images` [2, 3, height, width]: what images look like.
    """
    model = build_model(Structure(settings.arch), job.classes, 0.0, seed=0)
    model.to(idle_images, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    setup = Setup(
        model=model,
        config=ModelConfig(arch=settings.arch),
        freezing=FreezingConfig(freeze_depth=job.freeze_depth),
        optimizer=OptimizerConfig(learning_rate=LEARNING_RATE, clip_norm=job.clip_norm),
        schedule=ScheduleConfig(),
        schedule_epochs=1,
        training=TrainingConfig(
            precision="bf16" if job.bf16 else "fp32",
            label_smoothing=job.label_smoothing,
            mixup_alpha=job.mixup_alpha,
            ema_decay=job.ema_decay,
            activation_checkpointing=job.checkpointing,
            reduction=job.reduction,
        ),
        class_counts=np.ones(job.classes, dtype=np.int64),
        input_size=(idle_images.shape[2], idle_images.shape[3]),
        draw=SeededDraw(0),
        group=RankGroup(),
        device=idle_images.device,
    )
    state = setup.state_at(0)
    # Before anything is compiled: the passes that prime the reduction have shapes of their own.
    recipe = setup.begin_epoch(state)
    if job.cached:
        state.trunk = None
    if job.compiled:
        recipe.reduction.module = compiled(settings, recipe.reduction.module)  # type: ignore[misc]
        if state.trunk is not None:
            state.trunk = compiled(settings, state.trunk)  # type: ignore[assignment]
    return state, recipe


def training(settings: Settings, job: Job, source: ResidentSource) -> Variant:
    """`train_step` over the source's batches."""
    images = next(next(source.epoch(0)).microbatches).images
    state, recipe = make_training(settings, job, images[:2])
    if job.cached:
        trunk, _ = split(state.model, job.freeze_depth)
        assert trunk is not None
        source = source.features(trunk, job.bf16)
    steps = source.forever()

    def step() -> None:
        train_step(state, recipe, next(steps), LEARNING_RATE)

    return Variant(step, job.switches, 0 if job.cached else source.nbytes)
