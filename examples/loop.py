"""The training loop without Ray, storage and images: a small ResNet learns synthetic classes on the CPU.

PYTHONPATH=. python examples/loop.py
"""

import numpy as np
import torch

from data_pipeline.config import DataConfig
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.sources.synthetic_source import synthetic_samples
from data_pipeline.views.randomness import SeededDraw
from resnet_dist.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from resnet_dist.model.config import FreezingConfig, ModelConfig
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.training.fit import fit
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.setup import Setup
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import StepTotals

EPOCHS, CLASSES, SIDE = 5, 3, 32
GLOBAL_BATCH, MICROBATCH = 16, 8


class Printer:
    """Observes the training: `ray_jobs.training.recorder` stores checkpoints here."""

    metrics: dict[str, float]

    def step_done(self, state: TrainState, totals: StepTotals, waited: float) -> None:
        """A line for each step."""
        print(f"step {state.step}: loss {totals.metrics()['train/loss']:.3f}, waited {waited:.3f} s for images")

    def epoch_done(self, state: TrainState, metrics: dict[str, float]) -> bool:
        """A line for each validation; True goes on."""
        self.metrics = metrics
        print(f"epoch {state.epoch}: top-1 {metrics['val/top1']:.3f}")
        return True


def train() -> dict[str, float]:
    """The metrics of the last validation."""
    learn, judge = synthetic_samples(96, CLASSES, SIDE), synthetic_samples(30, CLASSES, SIDE)
    setup = Setup(
        model=build_model(Structure("resnet18"), CLASSES, dropout=0.0, seed=0).to(memory_format=torch.channels_last),
        config=ModelConfig(arch="resnet18", weights="none"),
        freezing=FreezingConfig(),
        optimizer=OptimizerConfig(learning_rate=0.01),
        schedule=ScheduleConfig(),
        schedule_epochs=EPOCHS,
        training=TrainingConfig(global_batch_size=GLOBAL_BATCH, microbatch_size=MICROBATCH),
        class_counts=np.bincount(learn.labels),
        input_size=(SIDE, SIDE),
        draw=SeededDraw(seed=0),
        group=RankGroup(),
        device=torch.device("cpu"),
    )
    spec = SourceSpec(DataConfig(source="synthetic", image_size=SIDE), decode=_no_files)
    training = training_source(spec, learn, GLOBAL_BATCH, MICROBATCH, RankShare())
    validation = evaluation_source(spec, judge, 30, RankShare())
    printer = Printer()
    with training, validation:
        fit(setup.state_at(epoch=0), setup, training, validation, EPOCHS, max_skipped_steps=0, observer=printer)
    return printer.metrics


def _no_files(_: bytes) -> np.ndarray:
    raise AssertionError("synthetic images need no file")


if __name__ == "__main__":
    train()
