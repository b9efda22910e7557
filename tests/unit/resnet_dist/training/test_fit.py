"""The real loop on a tiny network, in one process: what a step does, and what it leaves alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data_pipeline.config import DataConfig
from data_pipeline.sources.batches import ImageMicrobatch, ImageStep
from data_pipeline.sources.batching import TrainingImages
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.sources.synthetic_source import synthetic_samples
from resnet_dist.config import OptimizerConfig
from resnet_dist.errors import DivergedError
from resnet_dist.model.config import FreezingConfig
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.training.batch_norm import RunningStatistics
from resnet_dist.training.fit import fit
from resnet_dist.training.setup import Setup
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import Recipe, StepTotals, train_step


def decode(_: bytes) -> NDArray[np.uint8]:
    raise AssertionError("synthetic images need no file")


SPEC = SourceSpec(DataConfig(source="synthetic", image_size=32), decode)


def source(global_batch: int = 16, microbatch: int = 4, count: int = 32) -> TrainingImages:
    return training_source(SPEC, synthetic_samples(count), global_batch, microbatch, RankShare())


def first_step(training: TrainingImages, epoch: int) -> ImageStep:
    """The first step of an epoch, its microbatches at hand: a source passes over those not taken in time."""
    steps = training.epoch(epoch)
    step = next(steps)
    return replace(step, microbatches=iter(list(step.microbatches)))


MakeSetup = Callable[..., Setup]
MakeState = Callable[..., tuple[TrainState, Recipe]]


@pytest.fixture
def make_state(make_setup: MakeSetup) -> MakeState:
    """A state at the start and its recipe."""

    def make(**options: Any) -> tuple[TrainState, Recipe]:
        setup = make_setup(**options)
        state = setup.state_at(0)
        return state, setup.begin_epoch(state)

    return make


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    found = {name: value.clone() for name, value in state.model.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        found |= {f"optimizer {number} {name}": value.clone() for name, value in moments.items()}
    if state.ema is not None:
        found |= {f"ema {name}": value.clone() for name, value in state.ema.averages.items()}
    return found


@pytest.mark.parametrize(
    "microbatch", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(8, marks=pytest.mark.slow)]
)
def test_accumulation_over_microbatches_equals_one_large_batch_where_batch_norm_is_frozen(
    make_state: MakeState, microbatch: int
) -> None:
    learnt = []
    for size in (16, microbatch):
        state, recipe = make_state()
        state.suffix.eval()  # BatchNorm by its running statistics
        recipe = replace(recipe, statistics=RunningStatistics(state.suffix))
        step = first_step(source(microbatch=size), 0)
        train_step(state, recipe, step, 0.05)
        learnt.append(everything(state))
    before = build_model(Structure("resnet18"), 3, 0.0, seed=0).state_dict()
    for name, value in before.items():
        moved = (learnt[0][name] - value).abs().max()
        assert (learnt[0][name] - learnt[1][name]).abs().max() <= 1e-5 * max(float(moved), 1.0), name
    assert not torch.equal(learnt[0]["conv1.weight"], before["conv1.weight"])


def test_running_statistics_move_once_a_step_by_the_mean_over_microbatches(make_state: MakeState) -> None:
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
def test_a_step_that_is_not_finite_changes_nothing(make_state: MakeState, optimizer: str, first: bool) -> None:
    state, recipe = make_state(kind=optimizer, ema_decay=0.9)
    if not first:
        for step in source().epoch(0):
            train_step(state, recipe, step, 0.05)
    before = everything(state)
    step = first_step(source(), 1)

    def poisoned() -> Iterator[ImageMicrobatch]:
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

    def epoch_done(self, state: TrainState, metrics: dict[str, float]) -> bool:
        assert set(metrics) == {"val/top1", "val/macro_f1", "val/balanced_accuracy", "val/loss"}
        self.validated.append((state.epoch, state.step))
        return True


@dataclass(frozen=True)
class Constant:
    """A plan that changes nothing."""

    recipe: Recipe

    def begin_epoch(self, _: TrainState) -> Recipe:
        return self.recipe

    def learning_rate(self, _step: int, _steps_per_epoch: int) -> float:
        return 0.02


def run(state: TrainState, recipe: Recipe, epochs: int, most: int = 10) -> Watcher:
    watcher = Watcher()
    validation = evaluation_source(SPEC, synthetic_samples(9), 4, RankShare())
    fit(state, Constant(recipe), source(), validation, epochs, most, watcher)
    return watcher


def test_fit_learns_and_validates_each_epoch(make_state: MakeState) -> None:
    state, recipe = make_state(ema_decay=0.9)
    watcher = run(state, recipe, 4)
    assert watcher.validated == [(1, 2), (2, 4), (3, 6), (4, 8)]
    assert np.mean(watcher.losses[-2:]) < np.mean(watcher.losses[:2])
    assert state.suffix.training
    assert not run(state, recipe, 4).losses  # done is done


def test_a_validation_that_is_owed_comes_first_and_no_step_is_repeated(make_state: MakeState) -> None:
    state, recipe = make_state()
    state.step, state.step_in_epoch, state.validation_owed = 2, 2, True
    before = everything(state)
    watcher = run(state, recipe, 1)
    assert watcher.validated == [(1, 2)]
    assert not watcher.losses
    assert not state.validation_owed
    for name, value in everything(state).items():
        assert torch.equal(value, before[name]), name


OPTIONS: dict[str, tuple[Any, Any]] = {
    "dropout": (0.0, 0.1),
    "clip_norm": (None, 0.1),
    "label_smoothing": (0.0, 0.1),
    "mixup_alpha": (0.0, 0.1),
    "cutmix_alpha": (0.0, 1.0),
    "loss": ("cross_entropy", "focal"),
    "class_weights": ("none", "balanced"),
    "logit_adjustment": (0.0, 1.0),
    "precision": ("fp32", "bf16"),
}


def learnt_in_a_step(make_setup: MakeSetup, **options: Any) -> dict[str, torch.Tensor]:
    setup = make_setup(**options)
    state = setup.state_at(0)
    train_step(state, setup.begin_epoch(state), first_step(source(count=31), 0), 0.05)
    return everything(state)


@pytest.fixture(scope="module")
def plain(make_setup: MakeSetup) -> dict[str, torch.Tensor]:
    """What a step learns without any option."""
    return learnt_in_a_step(make_setup)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_has_an_effect_and_none_when_off(
    make_setup: MakeSetup, plain: dict[str, torch.Tensor], option: str
) -> None:
    off, on = (learnt_in_a_step(make_setup, **{option: value}) for value in OPTIONS[option])
    assert all(torch.equal(plain[name], off[name]) for name in plain)
    assert any(not torch.equal(plain[name], on[name]) for name in plain)


# Adam's first step is the gradient's sign, so rounding turns it over where the gradient is next to nothing.
@pytest.mark.parametrize(("optimizer", "rate"), [pytest.param("sgd", 0.002, marks=pytest.mark.slow), ("adamw", 1e-6)])
def test_fp16_learns_nearly_what_fp32_learns_and_its_scale_is_restored(
    make_state: MakeState, optimizer: str, rate: float
) -> None:
    losses: list[list[float]] = []
    for precision in ("fp32", "fp16"):
        state, recipe = make_state(kind=optimizer, precision=precision)
        losses.append([float(train_step(state, recipe, step, rate).loss) / 16 for step in source().epoch(0)])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert state.scale.enabled
    other = make_state(kind=optimizer, precision="fp16")[0]
    kept = state.training_state()
    kept["scale"]["scale"] /= 4.0
    other.restore(kept)
    assert other.scale.to_json() == kept["scale"]


def test_an_overflow_in_fp16_leaves_the_step_out_and_halves_the_scale(make_state: MakeState) -> None:
    state, recipe = make_state(precision="fp16")
    before, scale = everything(state), state.scale.to_json()["scale"]
    state.scale.restore({"scale": 2.0**60, "good_steps": 0})
    totals = train_step(state, recipe, first_step(source(), 0), 0.05)
    assert float(totals.skipped) == 1.0
    assert state.scale.to_json()["scale"] == 2.0**59
    assert scale == 2.0**16
    for name, value in everything(state).items():
        assert torch.equal(value, before[name]), name


def test_too_many_steps_that_are_not_finite_end_training_with_the_names_of_the_images(make_state: MakeState) -> None:
    state, recipe = make_state()
    with torch.no_grad():
        state.model.fc.bias[0] = torch.nan
    with pytest.raises(DivergedError, match=r"3 steps in a row.*max_skipped_steps=2.*epoch 2, step 1.*'\d+\.png'"):
        run(state, recipe, 4, most=2)


def test_steps_left_out_are_counted_over_a_restart(make_state: MakeState) -> None:
    state, recipe = make_state()
    with torch.no_grad():
        state.model.fc.bias[0] = torch.nan
    for _ in range(2):
        train_step(state, recipe, first_step(source(), 0), 0.05)
    kept = state.training_state()
    assert kept["skipped_in_a_row"] == 2
    resumed, recipe = make_state()
    resumed.restore(kept)
    train_step(resumed, recipe, first_step(source(), 0), 0.05)
    assert int(resumed.skipped_in_a_row) == 3
    with torch.no_grad():
        resumed.model.fc.bias.zero_()
    train_step(resumed, recipe, first_step(source(), 0), 0.05)
    assert int(resumed.skipped_in_a_row) == 0


def test_an_overflow_in_fp16_is_not_counted_until_the_scale_is_one(make_state: MakeState) -> None:
    state, recipe = make_state(precision="fp16")
    state.scale.restore({"scale": 2.0**60, "good_steps": 0})
    train_step(state, recipe, first_step(source(), 0), 0.05)
    assert int(state.skipped_in_a_row) == 0
    with torch.no_grad():
        state.model.fc.bias[0] = torch.nan
    train_step(state, recipe, first_step(source(), 0), 0.05)
    assert int(state.skipped_in_a_row) == 1


def test_early_stopping_does_not_cut_an_epoch_short(make_state: MakeState) -> None:
    state, recipe = make_state(early_stopping=True, early_stopping_patience=1)
    train_step(state, recipe, first_step(source(), 0), 0.05)
    assert state.stopping is not None
    for _ in range(2):  # as if the patience had been shortened since
        state.stopping.update({"val/loss": 1.0})
    assert state.stopping.should_stop
    run(state, recipe, 4)
    assert (state.epoch, state.step_in_epoch) == (1, 0)


def test_stages_that_begin_to_be_trained_find_the_optimizer_as_it_was(make_setup: MakeSetup) -> None:
    setup = make_setup(ema_decay=0.9)
    setup.freezing = FreezingConfig(preset="linear_probe_then_finetune", probe_epochs=1)
    state = setup.state_at(0)
    first = setup.begin_epoch(state)
    assert setup.begin_epoch(state) is first
    assert state.trunk is not None
    for step in source().epoch(0):
        train_step(state, first, step, 0.05)
    head = state.model.fc.weight
    moment, average = (state.optimizer.state[head]["momentum_buffer"].clone(), state.ema.averages["fc.weight"].clone())
    state.epoch = 1
    second = setup.begin_epoch(state)
    assert second is not first
    assert state.trunk is None
    assert torch.equal(state.optimizer.state[head]["momentum_buffer"], moment)
    assert moment.abs().max() > 0
    assert torch.equal(state.ema.averages["fc.weight"], average)
    assert torch.equal(state.ema.averages["conv1.weight"], state.model.conv1.weight)
    before = everything(state)
    train_step(state, second, first_step(source(), 1), 0.05)
    assert not torch.equal(state.model.conv1.weight, before["conv1.weight"])


def test_each_stages_rate_is_its_share(make_setup: MakeSetup) -> None:
    setup = make_setup()
    setup.optimizer = OptimizerConfig(learning_rate=0.05, stage_decay=0.5)
    state = setup.state_at(0)
    train_step(state, setup.begin_epoch(state), first_step(source(), 0), 0.08)
    rates = {id(each): group["lr"] for group in state.optimizer.param_groups for each in group["params"]}
    model = state.model
    assert rates[id(model.fc.weight)] == rates[id(model.fc.bias)] == pytest.approx(0.08)
    assert rates[id(model.layer4[0].conv1.weight)] == pytest.approx(0.04)
    assert rates[id(model.conv1.weight)] == rates[id(model.bn1.bias)] == pytest.approx(0.08 / 32)


def test_a_probe_of_memory_leaves_no_trace(make_setup: MakeSetup) -> None:
    setup = make_setup(precision="fp16", activation_checkpointing=True)
    state = setup.state_at(0)
    before = everything(state)
    assert setup.fitting_microbatch(0, 8) == 8
    for name, value in everything(state).items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in state.suffix.parameters())


def test_the_frozen_trunk_makes_no_gradient_and_keeps_its_numbers(make_state: MakeState) -> None:
    state, recipe = make_state(freeze_depth=3)
    before = everything(state)
    step = first_step(source(), 0)
    train_step(state, recipe, step, 0.05)
    for name, value in everything(state).items():
        frozen = name.startswith(("conv1", "bn1", "layer1", "layer2"))
        if frozen:
            assert torch.equal(value, before[name]), name
    assert not torch.equal(state.model.fc.weight, before["fc.weight"])
