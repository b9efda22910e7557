"""The real loop on a tiny network, in one process: what a step does, and what it leaves alone."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data_pipeline.batches import Microbatch, Step
from data_pipeline.build import evaluation_source, training_source
from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.randomness import Purpose, draw
from data_pipeline.samples import Samples, key_of
from data_pipeline.sources import TrainingSource
from resnet_dist.config import OptimizerConfig
from resnet_dist.model.resnet import build_model
from resnet_dist.model.trunk import split
from resnet_dist.training.batch_norm import RunningStatistics
from resnet_dist.training.ema import Ema
from resnet_dist.training.fit import fit
from resnet_dist.training.group import Group
from resnet_dist.training.optimizer import build_optimizer
from resnet_dist.training.reduction import ExactReduction
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import Recipe, StepTotals, train_step

DATA = DataConfig(source="synthetic", image_size=32)
PURPOSES = {"dropout": Purpose.DROPOUT, "mixing": Purpose.MIXING}


def keyed_draw(purpose: str, epoch: int, keys: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    return draw(0, PURPOSES[purpose], epoch, keys, count)


def decode(_: bytes) -> NDArray[np.uint8]:
    raise AssertionError("synthetic images need no file")


def samples(count: int) -> Samples:
    ids = tuple(f"{row}.png" for row in range(count))
    return Samples(
        root="/nowhere",
        classes=("a", "b", "c"),
        sample_ids=ids,
        keys=np.array([key_of(name) for name in ids], dtype=np.uint64),
        labels=np.arange(count) % 3,
        sizes=np.full((count, 2), 32, dtype=np.int32),
        plain=np.ones(count, dtype=np.bool_),
        content=ids,
    )


def source(global_batch: int = 16, microbatch: int = 4, count: int = 32) -> TrainingSource:
    cpu = torch.device("cpu")
    return training_source(
        DATA, AugmentationConfig(), 0, samples(count), global_batch, microbatch, 0, 1, cpu, 1, decode
    )


def first_step(training: TrainingSource, epoch: int) -> Step:
    """The first step of an epoch, its microbatches at hand: a source passes over those not taken in time."""
    steps = training.epoch(epoch)
    step = next(steps)
    return replace(step, microbatches=iter(list(step.microbatches)))


def make_state(optimizer: str = "sgd", ema: bool = False, freeze_depth: int = 0) -> tuple[TrainState, Recipe]:
    torch.set_num_threads(1)
    model = build_model("resnet18", 3, 0.0, seed=0)
    trunk, suffix = split(model, freeze_depth)
    suffix.train()
    built = build_optimizer(suffix, OptimizerConfig(kind=optimizer, learning_rate=0.05))  # type: ignore[arg-type]
    state = TrainState(model, trunk, suffix, built, Ema(suffix, 0.9) if ema else None)
    group = Group()
    recipe = Recipe(
        group=group,
        reduction=ExactReduction(suffix, group),
        statistics=RunningStatistics(suffix),
        draw=keyed_draw,
        dropout=0.0,
        label_smoothing=0.0,
        mixup_alpha=0.0,
        clip_norm=None,
        autocast=False,
    )
    return state, recipe


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    found = {name: value.clone() for name, value in state.model.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        found |= {f"optimizer {number} {name}": value.clone() for name, value in moments.items()}
    if state.ema is not None:
        found |= {f"ema {name}": value.clone() for name, value in state.ema.averages.items()}
    return found


@pytest.mark.parametrize("microbatch", [2, 4, 8])
def test_accumulation_over_microbatches_equals_one_large_batch_where_batch_norm_is_frozen(microbatch: int) -> None:
    learnt = []
    for size in (16, microbatch):
        state, recipe = make_state()
        state.suffix.eval()  # BatchNorm by its running statistics
        recipe = replace(recipe, statistics=RunningStatistics(state.suffix))
        step = first_step(source(microbatch=size), 0)
        train_step(state, recipe, step, 0.05)
        learnt.append(everything(state))
    before = build_model("resnet18", 3, 0.0, seed=0).state_dict()
    for name, value in before.items():
        moved = (learnt[0][name] - value).abs().max()
        assert (learnt[0][name] - learnt[1][name]).abs().max() <= 1e-5 * max(float(moved), 1.0), name
    assert not torch.equal(learnt[0]["conv1.weight"], before["conv1.weight"])


def test_running_statistics_move_once_a_step_by_the_mean_over_microbatches() -> None:
    state, recipe = make_state()
    step = first_step(source(), 0)
    seen: list[torch.Tensor] = []

    def spy(_: torch.nn.Module, inputs: tuple[torch.Tensor], _output: torch.Tensor) -> None:
        seen.append(inputs[0].detach().mean((0, 2, 3)))

    handle = state.model.bn1.register_forward_hook(spy)
    train_step(state, recipe, step, 0.05)
    handle.remove()
    assert len(seen) == 4
    torch.testing.assert_close(state.model.bn1.running_mean, 0.1 * torch.stack(seen).mean(0))
    assert state.model.bn1.momentum == 0.1
    assert int(state.model.bn1.num_batches_tracked or 0) == 1


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("first", [True, False])
def test_a_step_that_is_not_finite_changes_nothing(optimizer: str, first: bool) -> None:
    state, recipe = make_state(optimizer, ema=True)
    if not first:
        for step in source().epoch(0):
            train_step(state, recipe, step, 0.05)
    before = everything(state)
    step = first_step(source(), 1)

    def poisoned() -> Iterator[Microbatch]:
        for each in step.microbatches:
            if each.index == 2:
                each.images[0, 0, 0, 0] = torch.nan
            yield each

    totals = train_step(state, recipe, replace(step, microbatches=poisoned()), 0.05)
    after = everything(state)
    assert float(totals.skipped) == 1.0
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert all(bool(torch.isfinite(value.float()).all()) for value in after.values())


class Watcher:
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.validated: list[tuple[int, int]] = []

    def step_done(self, _: TrainState, totals: StepTotals, waited: float) -> None:
        assert waited >= 0.0
        self.losses.append(totals.metrics()["train/loss"])

    def epoch_done(self, state: TrainState, metrics: dict[str, float]) -> None:
        assert set(metrics) == {"val/top1", "val/macro_f1", "val/balanced_accuracy", "val/loss"}
        self.validated.append((state.epoch, state.step))


def run(state: TrainState, recipe: Recipe, epochs: int) -> Watcher:
    watcher = Watcher()
    validation = evaluation_source(DATA, samples(9), 4, 0, 1, torch.device("cpu"), 1, decode)
    fit(state, recipe, source(), validation, epochs, lambda _: 0.02, watcher)
    return watcher


def test_fit_learns_and_validates_each_epoch() -> None:
    state, recipe = make_state(ema=True)
    watcher = run(state, recipe, 4)
    assert watcher.validated == [(1, 2), (2, 4), (3, 6), (4, 8)]
    assert np.mean(watcher.losses[-2:]) < np.mean(watcher.losses[:2])
    assert state.suffix.training
    assert not run(state, recipe, 4).losses  # done is done


def test_a_validation_that_is_owed_comes_first_and_no_step_is_repeated() -> None:
    state, recipe = make_state()
    state.step, state.step_in_epoch, state.validation_owed = 2, 2, True
    before = everything(state)
    watcher = run(state, recipe, 1)
    assert watcher.validated == [(1, 2)]
    assert not watcher.losses
    assert not state.validation_owed
    for name, value in everything(state).items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("option", ["dropout", "mixup_alpha", "label_smoothing", "clip_norm"])
def test_each_option_has_an_effect_and_none_when_off(option: str) -> None:
    learnt: list[dict[str, torch.Tensor]] = []
    for value in (None, None, 0.1):
        state, recipe = make_state()
        if value is not None:
            recipe = replace(recipe, **{option: value})
        step = first_step(source(), 0)
        train_step(state, recipe, step, 0.05)
        learnt.append(everything(state))
    assert all(torch.equal(learnt[0][name], learnt[1][name]) for name in learnt[0])
    assert any(not torch.equal(learnt[0][name], learnt[2][name]) for name in learnt[0])


def test_the_frozen_trunk_makes_no_gradient_and_keeps_its_numbers() -> None:
    state, recipe = make_state(freeze_depth=3)
    before = everything(state)
    step = first_step(source(), 0)
    train_step(state, recipe, step, 0.05)
    for name, value in everything(state).items():
        frozen = name.startswith(("conv1", "bn1", "layer1", "layer2"))
        if frozen:
            assert torch.equal(value, before[name]), name
    assert not torch.equal(state.model.fc.weight, before["fc.weight"])
