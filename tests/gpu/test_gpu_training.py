"""The real step on a GPU: near the CPU's, the same twice to the bit, and resumed as if undisturbed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from data_pipeline.sources.batches import ImageMicrobatch, ImageStep
from data_pipeline.sources.synthetic_source import synthetic_images
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split
from resnet_dist.training.setup import Setup
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import Recipe, StepTotals, train_step

pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")
CLASSES, SIZE, MICROBATCH, MICROBATCHES = 5, 64, 8, 2
RATE = 0.001
ALL_OPTIONS = {"dropout": 0.2, "label_smoothing": 0.1, "mixup_alpha": 0.2, "clip_norm": 1.0}


MakeState = Callable[..., tuple[TrainState, Recipe]]


@pytest.fixture
def make_state(make_setup: Callable[..., Setup]) -> MakeState:
    """A state at the start and its recipe."""

    def make(device: torch.device, **options: Any) -> tuple[TrainState, Recipe]:
        defaults = {"ema_decay": 0.9, "size": SIZE, "class_counts": (10,) * CLASSES, "learning_rate": 0.01}
        setup = make_setup(device=device, **defaults | options)
        state = setup.state_at(0)
        return state, setup.begin_epoch(state)

    return make


def step_of(number: int, device: torch.device) -> ImageStep:
    """The same images on every device."""
    microbatches = []
    for index in range(MICROBATCHES):
        first = (number * MICROBATCHES + index) * MICROBATCH
        keys = np.arange(first, first + MICROBATCH, dtype=np.uint64)
        labels = (keys % CLASSES).astype(np.int64)
        images = torch.from_numpy(synthetic_images(keys, labels, (SIZE, SIZE))).permute(0, 3, 1, 2)
        images = images.contiguous(memory_format=torch.channels_last).to(device)
        microbatches.append(ImageMicrobatch(index, images, torch.from_numpy(labels).to(device), keys))
    return ImageStep(number, MICROBATCHES * MICROBATCH, MICROBATCHES, iter(microbatches))


def train(state: TrainState, recipe: Recipe, steps: int) -> list[StepTotals]:
    device = next(state.model.parameters()).device
    return [train_step(state, recipe, step_of(state.step, device), RATE) for _ in range(steps)]


def everything(state: TrainState) -> dict[str, torch.Tensor]:
    """All that training changes, on the CPU."""
    found = {name: value.cpu().clone() for name, value in state.model.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        found |= {f"optimizer {number} {name}": value.cpu().clone() for name, value in moments.items()}
    assert state.ema is not None
    return found | {f"ema {name}": value.cpu().clone() for name, value in state.ema.averages.items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name in found if not torch.equal(found[name], expected[name])]
    assert not different, f"{len(different)} of {len(found)} tensors differ, such as {different[:3]}"


@pytest.mark.parametrize("options", [{}, ALL_OPTIONS], ids=["plain", "all options"])
@pytest.mark.parametrize("freeze_depth", [0, 3, 5])
def test_a_step_is_the_cpus(
    make_state: MakeState, gpu: torch.device, freeze_depth: int, options: dict[str, float]
) -> None:
    """Tensors move as on the CPU, to a twentieth of the tensor's largest move. Rounding alone makes 0.016 of it,
    between fp32 and float64 on the CPU: BatchNorm over few numbers amplifies it, and a ReLU turns over."""
    first = {
        name: value.clone()
        for name, value in build_model(Structure("resnet18"), CLASSES, 0.0, seed=0).state_dict().items()
    }
    metrics, moved = [], []
    for device in (CPU, gpu):
        state, recipe = make_state(device, freeze_depth=freeze_depth, **options)
        (totals,) = train(state, recipe, 1)
        metrics.append(totals.metrics())
        moved.append({name: value.cpu() - first[name] for name, value in state.model.state_dict().items()})
    assert metrics[1]["train/loss"] == pytest.approx(metrics[0]["train/loss"], rel=1e-4)
    assert metrics[1]["train/gradient_norm"] == pytest.approx(metrics[0]["train/gradient_norm"], rel=1e-2)
    assert metrics[1]["train/skipped_steps"] == 0.0
    assert moved[0]["fc.weight"].abs().max() > 0
    for name, expected in moved[0].items():
        largest = float(expected.abs().max())
        assert float((moved[1][name] - expected).abs().max()) <= 5e-2 * largest, name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_losses_of_some_steps_are_the_cpus(make_state: MakeState, gpu: torch.device, optimizer: str) -> None:
    losses = []
    for device in (CPU, gpu):
        state, recipe = make_state(device, kind=optimizer)
        losses.append([totals.metrics()["train/loss"] for totals in train(state, recipe, 4)])
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-4)


@pytest.mark.parametrize("freeze_depth", [0, 3])
def test_bf16_autocast_is_near_fp32_and_keeps_fp32_weights(
    make_state: MakeState, gpu: torch.device, freeze_depth: int
) -> None:
    found = []
    for precision in ("fp32", "bf16"):
        state, recipe = make_state(gpu, freeze_depth=freeze_depth, precision=precision)
        (totals,) = train(state, recipe, 1)
        found.append(totals.metrics())
        assert all(value.dtype == torch.float32 for value in state.model.parameters())
    # bf16 keeps 8 bits: half a percent a number.
    assert found[1]["train/loss"] == pytest.approx(found[0]["train/loss"], rel=5e-2)
    assert found[1]["train/loss"] != found[0]["train/loss"]
    assert found[1]["train/gradient_norm"] == pytest.approx(found[0]["train/gradient_norm"], rel=0.2)
    assert found[1]["train/skipped_steps"] == 0.0


@pytest.mark.parametrize("reduction", ["exact", "overlapped"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_repeats_itself_to_the_bit(
    make_state: MakeState, gpu: torch.device, reduction: Literal["exact", "overlapped"], precision: str
) -> None:
    found = []
    for _ in range(2):
        state, recipe = make_state(gpu, reduction=reduction, precision=precision, **ALL_OPTIONS)
        train(state, recipe, 3)
        found.append(everything(state))
    assert_same(found[1], found[0])


@pytest.mark.parametrize("reduction", ["exact", "overlapped"])
@pytest.mark.parametrize("freeze_depth", [0, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resumed_is_undisturbed_to_the_bit(
    make_state: MakeState,
    gpu: torch.device,
    reduction: Literal["exact", "overlapped"],
    freeze_depth: int,
    optimizer: str,
) -> None:
    undisturbed, recipe = make_state(gpu, freeze_depth=freeze_depth, kind=optimizer, reduction=reduction, **ALL_OPTIONS)
    train(undisturbed, recipe, 2)
    weights, training_state, step = undisturbed.judged_weights(), undisturbed.training_state(), undisturbed.step
    stopped = everything(undisturbed)
    train(undisturbed, recipe, 2)

    resumed, recipe = make_state(
        gpu, freeze_depth=freeze_depth, kind=optimizer, reduction=reduction, weights=weights, **ALL_OPTIONS
    )
    resumed.restore(training_state)
    resumed.step = step
    assert_same(everything(resumed), stopped)
    train(resumed, recipe, 2)
    assert_same(everything(resumed), everything(undisturbed))


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_step_that_is_not_finite_changes_nothing(make_state: MakeState, gpu: torch.device, where: str) -> None:
    state, recipe = make_state(gpu)
    train(state, recipe, 1)
    before = everything(state)
    step = step_of(1, gpu)
    microbatches = list(step.microbatches)
    microbatches[0 if where == "first" else -1].images[0, 0, 0, 0] = torch.nan
    totals = train_step(state, recipe, replace(step, microbatches=iter(microbatches)), RATE)
    assert float(totals.skipped) == 1.0
    assert_same(everything(state), before)


@pytest.mark.parametrize("depth", range(6))
def test_trunk_then_suffix_is_the_model(gpu: torch.device, depth: int) -> None:
    model = build_model(Structure("resnet50"), CLASSES, 0.0, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0.0, 0.2, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
                layer.weight.uniform_(0.3, 1.2, generator=generator)
                layer.bias.normal_(0.0, 0.2, generator=generator)
    model.to(device=gpu, memory_format=torch.channels_last).eval()
    images = torch.randn((4, 3, SIZE, SIZE), generator=generator).to(gpu, memory_format=torch.channels_last)
    with torch.no_grad():
        expected = model(images)
        trunk, suffix = split(model, depth)
        features = images if trunk is None else trunk(images)
        logits = suffix.eval()(features)
    assert logits.device == images.device
    if features.ndim == 4:
        assert features.is_contiguous(memory_format=torch.channels_last)
    assert float((logits - expected).abs().max() / expected.abs().max()) < 1e-5
