"""The real loop with a teacher: what a step learns, what it leaves alone, and that a resume goes on to the bit."""

import copy
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data_pipeline.config import DataConfig
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.sources.synthetic_source import synthetic_samples
from resnet_dist.compression.config import DistillationConfig
from resnet_dist.compression.distillation.student_loss import Distillation
from resnet_dist.compression.distillation.teacher import Teacher
from resnet_dist.features.answers import SharedAnswers
from resnet_dist.features.reuse import FeatureReuse
from resnet_dist.features.store import FeatureStore
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from resnet_dist.training.fit import fit
from resnet_dist.training.setup import Setup
from resnet_dist.training.state import TrainState
from tests.stopped_training import StopError, Watcher

MakeSetup = Callable[..., Setup]
MICROBATCHES, VALIDATION_BATCHES = 8, 3
"""Of an epoch, and of a validation."""


def decode(_: bytes) -> Any:
    raise AssertionError("synthetic images need no file")


def narrow(seed: int) -> ResNetClassifier:
    return build_model(Structure("resnet18", widths=Widths.parse("0.5", "resnet18")), 3, 0.5, seed)


def taught(setup: Setup, **options: Any) -> Setup:
    """With a teacher of another seed and other widths than the student's."""
    config = DistillationConfig(teacher="large", **options)
    teacher = Teacher(narrow(9), with_maps=config.features > 0.0)
    return replace(setup, distillation=Distillation(config, teacher, setup.input_size))


@dataclass
class Trained:
    state: TrainState
    watcher: Watcher

    def assert_same(self, other: "Trained") -> None:
        assert self.watcher.metrics == other.watcher.metrics
        assert self.different(other) == []

    def different(self, other: "Trained") -> list[str]:
        weights = other.state.judged_weights()
        return [name for name, value in self.state.judged_weights().items() if not torch.equal(value, weights[name])]


def train(
    setup: Setup,
    shared: SharedAnswers | FeatureReuse | None = None,
    epochs: int = 2,
    stop_at: int | None = None,
    resumed: dict[str, Any] | None = None,
    at: tuple[int, int, int] = (0, 0, 0),
) -> Trained:
    spec, share = SourceSpec(DataConfig(source="synthetic", image_size=32), decode), RankShare()
    cached = (None, None) if shared is None else (shared.cached_microbatch, shared.cached_batch)
    training = training_source(spec, synthetic_samples(31), 16, 4, share, cached[0])
    validation = evaluation_source(spec, synthetic_samples(9), 4, share, cached[1])
    state = setup.state_at(at[1])
    if resumed is not None:
        state.restore(resumed["training_state"])
        state.step, state.epoch, state.step_in_epoch = at
    watcher = Watcher(stop_at)
    with training, validation, suppress(StopError):
        fit(state, setup, training, validation, epochs, 10, watcher)
    if shared is not None:
        shared.close()
    return Trained(state, watcher)


def test_without_weight_training_is_the_plain_one_to_the_bit(make_setup: MakeSetup) -> None:
    plain = train(make_setup(label_smoothing=0.1, dropout=0.2), epochs=1)
    train(taught(make_setup(label_smoothing=0.1, dropout=0.2), weight=0.0), epochs=1).assert_same(plain)


def test_each_setting_has_an_effect(make_setup: MakeSetup) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"weight": 0.5},
        {"temperature": 4.0},
        {"features": 1.0},
        {"weight": 0.0, "features": 1.0},
    ]
    runs = [train(taught(make_setup(), **each), stop_at=1) for each in settings]
    runs.append(train(make_setup(), stop_at=1))
    for number, one in enumerate(runs):
        for other in runs[:number]:
            assert one.different(other)


def test_where_all_images_are_mixed_the_labels_say_nothing(make_setup: MakeSetup) -> None:
    # All global batches but the last one have pairs only.
    def learnt(**options: Any) -> Trained:
        return train(taught(make_setup(mixup_alpha=0.4, **options), weight=0.1), stop_at=1)

    mixed = learnt()
    assert learnt(label_smoothing=0.4, logit_adjustment=2.0).different(mixed) == []
    pure = train(taught(make_setup(mixup_alpha=0.4), weight=1.0), stop_at=1)
    assert pure.different(mixed) == []


def test_the_teacher_never_changes(make_setup: MakeSetup) -> None:
    setup = taught(make_setup(), features=1.0)
    assert setup.distillation is not None
    teacher = setup.distillation.teacher
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    train(setup, epochs=1)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(part.training for part in teacher.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())


EVERYTHING = {"mixup_alpha": 0.4, "cutmix_alpha": 1.0, "dropout": 0.2, "label_smoothing": 0.1, "clip_norm": 1.0}


@pytest.mark.parametrize(
    "options",
    [pytest.param(EVERYTHING, id="all"), pytest.param({"freeze_depth": 3, "reduction": "overlapped"}, id="frozen")],
)
def test_a_resume_in_mid_epoch_goes_on_to_the_bit(make_setup: MakeSetup, options: dict[str, Any]) -> None:
    whole = train(taught(make_setup(**options), features=2.0))
    stopped = train(taught(make_setup(**options), features=2.0), stop_at=3)
    kept = copy.deepcopy(stopped.watcher.kept)  # a state takes moments as they are
    setup = taught(make_setup(**options, weights=kept["weights"]), features=2.0)
    resumed = train(setup, resumed=kept, at=(3, 1, 1))
    assert resumed.watcher.metrics == whole.watcher.metrics[4:]
    assert resumed.different(whole) == []


def test_recomputed_activations_and_stages_that_thaw_learn_the_same(make_setup: MakeSetup) -> None:
    plain = train(taught(make_setup(), features=2.0), epochs=1)
    train(taught(make_setup(activation_checkpointing=True), features=2.0), epochs=1).assert_same(plain)
    options: dict[str, Any] = {"preset": "linear_probe_then_finetune", "probe_epochs": 1}
    with_maps, without = (train(taught(make_setup(**options), features=each)) for each in (2.0, 0.0))
    # With a head alone there is no stage whose maps could learn.
    assert with_maps.watcher.metrics[:3] == without.watcher.metrics[:3]
    assert with_maps.different(without)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_shorter_numbers_learn_nearly_the_same(make_setup: MakeSetup, precision: str) -> None:
    exact = train(taught(make_setup(), features=2.0), stop_at=1)
    short = train(taught(make_setup(precision=precision), features=2.0), stop_at=1)
    assert short.watcher.metrics[0]["train/loss"] == pytest.approx(exact.watcher.metrics[0]["train/loss"], rel=0.03)


def test_the_probe_of_memory_asks_the_teacher_too(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = taught(make_setup())
    assert setup.distillation is not None
    answer = setup.distillation.teacher.answer

    def hungry(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 4:
            raise torch.OutOfMemoryError("the teacher does not fit")
        return answer(images)

    monkeypatch.setattr(setup.distillation.teacher, "answer", hungry)
    assert setup.fitting_microbatch(0, 16) == 4


def sharing(folder: Path, kept: Any = "fp32") -> tuple[FeatureReuse, SharedAnswers, FeatureReuse]:
    """Features, both together, and answers."""
    reuse = FeatureReuse(FeatureStore(folder, 2**28), "00ff", kept, [].append, always=True)
    answers = reuse.beside("answers of the teacher")
    return reuse, SharedAnswers(answers, reuse), answers


def shared_training(setup: Setup, parts: tuple[FeatureReuse, SharedAnswers, FeatureReuse]) -> Trained:
    assert setup.distillation is not None
    distillation = replace(setup.distillation, shared=parts[1])
    return train(replace(setup, reuse=parts[0], distillation=distillation), parts[1])


RANK = """
import sys
import numpy as np
import torch
import torch.distributed as dist
from data_pipeline.config import DataConfig
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.sources.synthetic_source import synthetic_samples
from data_pipeline.views.randomness import SeededDraw
from resnet_dist.compression.config import DistillationConfig
from resnet_dist.compression.distillation.student_loss import Distillation
from resnet_dist.compression.distillation.teacher import Teacher
from resnet_dist.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from resnet_dist.model.config import FreezingConfig, ModelConfig
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.training.fit import fit
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.setup import Setup

rank, world_size, folder, reduction = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:5]
count, compiled = int(sys.argv[5]), len(sys.argv) > 6
torch.set_num_threads(1)
if world_size > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
cpu, group = torch.device("cpu"), RankGroup(rank, world_size)


class Watcher:
    def step_done(self, *_):
        pass

    def epoch_done(self, *_):
        return True


teacher = Teacher(build_model(Structure("resnet18"), 3, 0.0, 9), with_maps=True)
setup = Setup(
    model=build_model(Structure("resnet18"), 3, 0.0, 0).to(memory_format=torch.channels_last),
    config=ModelConfig(arch="resnet18"),
    freezing=FreezingConfig(freeze_depth=1),
    optimizer=OptimizerConfig(learning_rate=0.01),
    schedule=ScheduleConfig(),
    schedule_epochs=4,
    training=TrainingConfig(reduction=reduction, mixup_alpha=0.4, compile=compiled),
    class_counts=np.array((11, 11, 10)),
    input_size=(32, 32),
    draw=SeededDraw(0),
    group=group,
    device=cpu,
    distillation=Distillation(DistillationConfig(teacher="large", features=2.0), teacher, (32, 32)),
)
state, spec = setup.state_at(0), SourceSpec(DataConfig(source="synthetic", image_size=32), None)
share = RankShare(rank, world_size)
training = training_source(spec, synthetic_samples(count), 16, 4, share)
validation = evaluation_source(spec, synthetic_samples(count // 4), 4, share)
with training, validation:
    fit(state, setup, training, validation, 1, 10, Watcher())
torch.save({"weights": state.judged_weights()}, f"{folder}/{rank}.pt")
if world_size > 1:
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_any_number_of_ranks_learns_the_same_from_a_teacher(
    tmp_path: Path, run_ranks: Callable[..., list[dict[str, Any]]]
) -> None:
    (alone,) = run_ranks(RANK, 1, tmp_path / "1", "exact", "31")
    for world_size in (2, 3):
        for found in run_ranks(RANK, world_size, tmp_path / str(world_size), "exact", "31"):
            assert all(torch.equal(found["weights"][name], value) for name, value in alone["weights"].items())
    overlapped = run_ranks(RANK, 2, tmp_path / "overlapped", "overlapped", "31")
    assert_alike([each["weights"] for each in overlapped], alone["weights"])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler on this machine")
def test_compiled_networks_of_several_ranks_learn_nearly_the_same(
    tmp_path: Path, run_ranks: Callable[..., list[dict[str, Any]]]
) -> None:
    # In processes of their own: the compiler leaves threads behind. One step, in which all batches have one size.
    eager, compiled = (
        run_ranks(RANK, 2, tmp_path / name, "overlapped", "16", *arguments)
        for name, arguments in (("eager", ()), ("compiled", ("compiled",)))
    )
    assert_alike([each["weights"] for each in compiled], eager[0]["weights"])


def assert_alike(of_ranks: list[dict[str, torch.Tensor]], expected: dict[str, torch.Tensor]) -> None:
    """Ranks to the bit, and near what is expected: sums in float32 differ in their last digits."""
    start = build_model(Structure("resnet18"), 3, 0.0, 0).state_dict()
    for name, value in expected.items():
        assert torch.equal(of_ranks[0][name], of_ranks[1][name])
        moved = (value - start[name]).double().norm()
        assert (of_ranks[0][name] - value).double().norm() <= 0.02 * moved + 1e-6, name


SHARED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing frozen": ({}, {"features": 1.0}),
    "depth 4": ({"freeze_depth": 4, "mixup_alpha": 0.4, "dropout": 0.2}, {"features": 1.0}),
    "depth 5, bf16": ({"freeze_depth": 5, "precision": "bf16"}, {}),
}


@pytest.mark.parametrize("name", SHARED)
def test_training_is_the_same_to_the_bit_while_the_store_is_filled_and_when_all_is_known(
    make_setup: MakeSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    options, distillation = SHARED[name]
    without = train(taught(make_setup(**options), **distillation))
    filling, knowing = sharing(tmp_path), sharing(tmp_path)
    shared_training(taught(make_setup(**options), **distillation), filling).assert_same(without)
    assert filling[2].counts.misses == 2 * MICROBATCHES
    setup = taught(make_setup(**options), **distillation)
    assert setup.distillation is not None

    def refuse(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("its answers are all known")

    monkeypatch.setattr(setup.distillation.teacher, "answer", refuse)
    shared_training(setup, knowing).assert_same(without)
    assert (knowing[2].counts.hits, knowing[2].counts.misses) == (2 * MICROBATCHES, 0)
    features = 2 * MICROBATCHES + 2 * VALIDATION_BATCHES if options.get("freeze_depth") else 0
    assert (knowing[0].counts.hits, knowing[0].counts.misses) == (features, 0)
    assert knowing[1].counts.hits == 2 * MICROBATCHES + features


def test_a_microbatch_whose_answer_is_missing_gets_its_images(make_setup: MakeSetup, tmp_path: Path) -> None:
    setup = taught(make_setup(freeze_depth=4))
    without = train(setup)
    # A training without a teacher has stored features, and no answers.
    reuse = sharing(tmp_path)[0]
    train(replace(make_setup(freeze_depth=4), reuse=reuse), reuse)
    first = sharing(tmp_path)
    shared_training(taught(make_setup(freeze_depth=4)), first).assert_same(without)
    assert (first[0].counts.misses, first[2].counts.misses) == (0, 2 * MICROBATCHES)
    for entry in sorted((tmp_path / "scopes").glob("*/train-*"))[::5]:
        entry.unlink()
    holes = sharing(tmp_path)
    shared_training(taught(make_setup(freeze_depth=4)), holes).assert_same(without)
    assert holes[0].counts.misses
    assert holes[2].counts.misses


def test_another_teacher_has_other_answers(make_setup: MakeSetup, tmp_path: Path) -> None:
    shared_training(taught(make_setup(freeze_depth=5)), sharing(tmp_path))
    setup = taught(make_setup(freeze_depth=5))
    assert setup.distillation is not None
    other = replace(setup.distillation, teacher=Teacher(narrow(10)))
    parts = sharing(tmp_path)
    shared_training(replace(setup, distillation=other), parts)
    assert (parts[0].counts.misses, parts[2].counts.misses) == (0, 2 * MICROBATCHES)


def test_a_source_that_asks_for_features_alone_is_refused(make_setup: MakeSetup, tmp_path: Path) -> None:
    reuse, shared, _ = sharing(tmp_path)
    train(replace(make_setup(freeze_depth=5), reuse=reuse), reuse)
    reuse, shared, _ = sharing(tmp_path)
    setup = taught(make_setup(freeze_depth=5))
    assert setup.distillation is not None
    setup = replace(setup, reuse=reuse, distillation=replace(setup.distillation, shared=shared))
    with pytest.raises(RuntimeError, match="no images and no answer of the teacher"):
        train(setup, reuse)
