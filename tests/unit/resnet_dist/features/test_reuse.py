"""The real loop with features from a store: to the bit what it is without, and nothing rendered twice."""

import copy
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data_pipeline.config import DataConfig
from data_pipeline.sources.batching import Renderer, Request
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.sources.synthetic_source import synthetic_samples
from resnet_dist.features.reuse import FeatureReuse
from resnet_dist.features.store import FeatureStore
from resnet_dist.model.trunk import Trunk, split
from resnet_dist.training.fit import fit
from resnet_dist.training.setup import Setup
from resnet_dist.training.state import TrainState
from tests.stopped_training import StopError, Watcher

CPU = torch.device("cpu")
DATA = DataConfig(source="synthetic", image_size=32)
MICROBATCHES, VALIDATION_BATCHES = 8, 3
"""Of an epoch, and of a validation."""
LIMIT = 2**28

MakeSetup = Callable[..., Setup]


def decode(_: bytes) -> NDArray[np.uint8]:
    raise AssertionError("synthetic images need no file")


@dataclass
class Counting:
    """A renderer's images, counted by request."""

    renderer: Renderer
    rendered: int = 0

    def render(self, requests: Iterator[Request]) -> Generator[torch.Tensor]:
        for images in self.renderer.render(requests):
            self.rendered += 1
            yield images

    def close(self) -> None:
        self.renderer.close()


@dataclass
class Trained:
    """What a training came to."""

    state: TrainState
    metrics: list[dict[str, float]]
    rendered: int
    kept: dict[str, Any]

    def assert_same(self, other: "Trained") -> None:
        assert self.metrics == other.metrics
        weights = other.state.judged_weights()
        different = [
            name for name, value in self.state.judged_weights().items() if not torch.equal(value, weights[name])
        ]
        assert not different, different[:3]


def train(
    setup: Setup,
    reuse: FeatureReuse | None = None,
    epochs: int = 2,
    stop_at: int | None = None,
    resumed: dict[str, Any] | None = None,
    at: tuple[int, int, int] = (0, 0, 0),
) -> Trained:
    setup = replace(setup, reuse=reuse)
    microbatch, batch = (None, None) if reuse is None else (reuse.cached_microbatch, reuse.cached_batch)
    spec, share = SourceSpec(DATA, decode), RankShare()
    training = training_source(spec, synthetic_samples(31), 16, 4, share, microbatch)
    validation = evaluation_source(spec, synthetic_samples(9), 4, share, batch)
    counting = Counting(training.renderer), Counting(validation.renderer)
    training, validation = replace(training, renderer=counting[0]), replace(validation, renderer=counting[1])
    state = setup.state_at(at[1])
    if resumed is not None:
        state.restore(resumed["training_state"])
        state.step, state.epoch, state.step_in_epoch = at
    watcher = Watcher(stop_at)
    with training, validation, suppress(StopError):
        fit(state, setup, training, validation, epochs, 10, watcher)
    if reuse is not None:
        reuse.close()
    return Trained(state, watcher.metrics, sum(each.rendered for each in counting), watcher.kept)


def sharing(folder: Path, kept: Any = "fp32", limit: int = LIMIT, said: list[str] | None = None) -> FeatureReuse:
    messages = [] if said is None else said
    return FeatureReuse(FeatureStore(folder, limit), "00ff", kept, messages.append, always=True)


EVERYTHING = {
    "mixup_alpha": 0.4,
    "cutmix_alpha": 1.0,
    "dropout": 0.2,
    "label_smoothing": 0.1,
    "ema_decay": 0.9,
    "clip_norm": 1.0,
}
OPTIONS: dict[str, dict[str, Any]] = {
    **{f"depth {depth}": {"freeze_depth": depth} for depth in range(1, 6)},
    "everything, depth 5": {"freeze_depth": 5, **EVERYTHING},
    "everything, depth 2": {"freeze_depth": 2, **EVERYTHING},
    "layered": {"preset": "layered"},
    "gates": {"freeze_depth": 3, "squeeze_excite": True},
    "bf16": {"freeze_depth": 3, "precision": "bf16"},
    "fp16": {"freeze_depth": 5, "precision": "fp16"},
    "checkpointing": {"freeze_depth": 3, "activation_checkpointing": True},
    "overlapped": {"freeze_depth": 4, "reduction": "overlapped"},
}


USUAL = {"depth 5", "everything, depth 5", "overlapped"}


@pytest.mark.parametrize(
    "name", [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS]
)
def test_training_is_the_same_to_the_bit_while_the_store_is_filled_and_when_all_is_known(
    make_setup: MakeSetup, tmp_path: Path, name: str
) -> None:
    options = OPTIONS[name]
    without = train(make_setup(**options))
    filling, knowing = sharing(tmp_path), sharing(tmp_path)
    first = train(make_setup(**options), filling)
    first.assert_same(without)
    assert without.rendered == 2 * (MICROBATCHES + VALIDATION_BATCHES)
    # The second epoch's validation is known from the first.
    assert first.rendered == filling.counts.misses == 2 * MICROBATCHES + VALIDATION_BATCHES
    assert filling.counts.hits == VALIDATION_BATCHES
    assert filling.counts.stored_bytes > 0
    second = train(make_setup(**options), knowing)
    second.assert_same(without)
    assert (second.rendered, knowing.counts.misses, knowing.counts.stored_bytes) == (0, 0, 0)
    assert knowing.counts.hits == 2 * (MICROBATCHES + VALIDATION_BATCHES)


def test_trials_share_what_does_not_depend_on_them(make_setup: MakeSetup, tmp_path: Path) -> None:
    train(make_setup(freeze_depth=4), sharing(tmp_path))
    options: dict[str, Any] = {"freeze_depth": 4, "dropout": 0.5, "kind": "adamw", "label_smoothing": 0.2}
    reuse = sharing(tmp_path)
    other = train(make_setup(**options), reuse)
    assert reuse.counts.misses == 0
    other.assert_same(train(make_setup(**options)))


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["gradual", "linear_probe_then_finetune"])
def test_stages_that_begin_to_be_trained_have_features_of_their_own(
    make_setup: MakeSetup, tmp_path: Path, preset: str
) -> None:
    options: dict[str, Any] = {"preset": preset, "probe_epochs": 1, "mixup_alpha": 0.2}
    without = train(make_setup(**options), epochs=3)
    for rendered in (3, 0):
        reuse = sharing(tmp_path)
        trained = train(make_setup(**options), reuse, epochs=3)
        trained.assert_same(without)
        if preset == "gradual":
            assert trained.rendered == rendered * (MICROBATCHES + VALIDATION_BATCHES)
        else:  # two epochs have no trunk
            assert trained.rendered == (2 + bool(rendered)) * (MICROBATCHES + VALIDATION_BATCHES)


def test_a_resume_in_mid_epoch_goes_on_with_what_is_known(make_setup: MakeSetup, tmp_path: Path) -> None:
    options: dict[str, Any] = {"freeze_depth": 3, **EVERYTHING, "ema_decay": None}
    without = train(make_setup(**options))
    stopped = train(make_setup(**options), sharing(tmp_path), stop_at=3)
    assert stopped.metrics == without.metrics[:4]
    for fresh in (tmp_path, tmp_path / "empty"):
        resumed = train(
            make_setup(**options, weights=stopped.kept["weights"]),
            sharing(fresh),
            resumed=copy.deepcopy(stopped.kept),  # a state takes moments as they are
            at=(3, 1, 1),
        )
        assert resumed.metrics == without.metrics[4:]
        weights = without.state.judged_weights()
        assert all(torch.equal(value, weights[name]) for name, value in resumed.state.judged_weights().items())


@pytest.mark.slow
def test_rounded_features_give_the_same_training_known_or_not(make_setup: MakeSetup, tmp_path: Path) -> None:
    first, second = sharing(tmp_path, "bf16"), sharing(tmp_path, "bf16")
    filling = train(make_setup(freeze_depth=4), first)
    train(make_setup(freeze_depth=4), second).assert_same(filling)
    assert second.counts.misses == 0
    none_stored = sharing(tmp_path / "none", "bf16", limit=1)
    train(make_setup(freeze_depth=4), none_stored).assert_same(filling)
    assert none_stored.counts.hits == 0
    exact = sharing(tmp_path, "fp32")
    plain = train(make_setup(freeze_depth=4), exact)
    assert exact.counts.hits == VALIDATION_BATCHES  # only its own: what is rounded has a scope of its own
    assert plain.metrics != filling.metrics
    assert exact.counts.stored_bytes > 1.9 * first.counts.stored_bytes


@pytest.mark.slow
def test_at_the_limit_the_rest_is_computed_and_it_is_said_once(make_setup: MakeSetup, tmp_path: Path) -> None:
    said: list[str] = []
    without = train(make_setup(freeze_depth=4))
    one = 4 * 256 * 2 * 2 * 4 + 256  # an entry of layer3 at 32 pixels
    for hits in (0, 5):
        reuse = sharing(tmp_path, limit=5 * one + 10, said=said)
        trained = train(make_setup(freeze_depth=4), reuse)
        trained.assert_same(without)
        assert reuse.counts.hits == hits
    assert [message.partition(",")[0] for message in said] == ["no more features of the frozen stages are stored"] * 2


def test_a_full_disk_ends_sharing_and_not_the_training(make_setup: MakeSetup, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(1_000_000))
    said: list[str] = []
    reuse = sharing(small_disk, said=said)
    train(make_setup(freeze_depth=4), reuse).assert_same(train(make_setup(freeze_depth=4)))
    assert reuse.counts.misses
    assert len(said) == 1
    assert "No space left" in said[0]


def test_damaged_entries_are_computed_again(make_setup: MakeSetup, tmp_path: Path) -> None:
    without = train(make_setup(freeze_depth=5))
    train(make_setup(freeze_depth=5), sharing(tmp_path))
    entries = sorted((tmp_path / "scopes").glob("*/train-*"))
    assert len(entries) == 2 * MICROBATCHES
    for entry in entries[::3]:
        entry.write_bytes(entry.read_bytes()[:-5])
    reuse = sharing(tmp_path)
    trained = train(make_setup(freeze_depth=5), reuse)
    trained.assert_same(without)
    assert trained.rendered == reuse.counts.misses == len(entries[::3])


def test_features_that_are_read_no_faster_than_computed_are_not_reused(tmp_path: Path, make_setup: MakeSetup) -> None:
    # A trunk that costs nothing and features of some size: reading them cannot be faster.
    said: list[str] = []
    reuse = FeatureReuse(FeatureStore(tmp_path, LIMIT), "00", "fp32", said.append)
    reuse.begin(split(make_setup().model, 1)[0])
    features = torch.zeros((64, 256, 16, 16))
    for index in range(8):
        assert reuse.of_microbatch(0, 0, index, lambda: features) is features
    assert len(said) == 1
    assert "computed each time: reading those of a microbatch takes" in said[0]
    assert reuse.cached_microbatch(0, 0, 0) is None
    assert reuse.of_microbatch(0, 0, 0, lambda: features) is features


def test_another_trunk_and_another_base_have_other_features(tmp_path: Path, make_setup: MakeSetup) -> None:
    features = torch.arange(8.0).reshape(2, 4)
    store = FeatureStore(tmp_path, LIMIT)

    def known(base: str, trunk: Trunk | None, kept: Any = "fp32") -> bool:
        reuse = FeatureReuse(store, base, kept, lambda _: None, always=True)
        reuse.begin(trunk)
        return reuse.cached_microbatch(0, 0, 0) is not None

    setup = make_setup()
    trunk = split(setup.model, 2)[0]
    reuse = FeatureReuse(store, "00", "fp32", lambda _: None, always=True)
    reuse.begin(trunk)
    reuse.of_microbatch(0, 0, 0, lambda: features)
    reuse.close()
    assert known("00", trunk)
    assert known("00", split(make_setup().model, 2)[0])  # equal numbers, another object
    assert not known("01", trunk)
    assert not known("00", trunk, "bf16")
    assert not known("00", split(setup.model, 3)[0])
    assert not known("00", None)
    with torch.no_grad():
        setup.model.layer1[1].bn2.running_mean[3] += 1e-3
    assert not known("00", split(setup.model, 2)[0])


RANK = """
import sys
from pathlib import Path
import numpy as np
import torch
import torch.distributed as dist
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.config import AugmentationConfig, DataConfig
from data_pipeline.views.randomness import SeededDraw
from data_pipeline.sources.synthetic_source import synthetic_samples
from resnet_dist.config import OptimizerConfig, ScheduleConfig, TrainingConfig
from resnet_dist.model.config import FreezingConfig, ModelConfig
from resnet_dist.features.reuse import FeatureReuse
from resnet_dist.features.store import FeatureStore
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.training.fit import fit
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.setup import Setup

rank, world_size, folder, stored = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
if world_size > 1:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)
cpu, group = torch.device("cpu"), RankGroup(rank, world_size)


class Watcher:
    metrics = []

    def step_done(self, *_):
        pass

    def epoch_done(self, _, metrics):
        self.metrics.append(metrics)
        return True


reuse = None
if stored:
    reuse = FeatureReuse(FeatureStore(Path(stored), 2**28), "00ff", "fp32", print, always=True)
setup = Setup(
    model=build_model(Structure("resnet18"), 3, 0.2, 0).to(memory_format=torch.channels_last),
    config=ModelConfig(arch="resnet18", dropout=0.2),
    freezing=FreezingConfig(freeze_depth=4),
    optimizer=OptimizerConfig(learning_rate=0.05),
    schedule=ScheduleConfig(),
    schedule_epochs=4,
    training=TrainingConfig(reduction="exact", mixup_alpha=0.4, cutmix_alpha=1.0),
    class_counts=np.array((11, 11, 10)),
    input_size=(32, 32),
    draw=SeededDraw(0),
    group=group,
    device=cpu,
    reuse=reuse,
)
state, spec = setup.state_at(0), SourceSpec(DataConfig(source="synthetic", image_size=32), None)
share = RankShare(rank, world_size)
microbatch, batch = (None, None) if reuse is None else (reuse.cached_microbatch, reuse.cached_batch)
training = training_source(spec, synthetic_samples(31), 16, 4, share, microbatch)
validation = evaluation_source(spec, synthetic_samples(9), 4, share, batch)
with training, validation:
    fit(state, setup, training, validation, 2, 10, Watcher())
counts = [0, 0] if reuse is None else [reuse.counts.hits, reuse.counts.misses]
torch.save({"weights": state.judged_weights(), "metrics": Watcher.metrics, "counts": counts}, f"{folder}/{rank}.pt")
if world_size > 1:
    dist.destroy_process_group()
"""


@pytest.mark.slow
def test_any_number_of_ranks_shares_features_and_learns_the_same(
    tmp_path: Path, run_ranks: Callable[..., list[dict[str, Any]]]
) -> None:
    stored = str(tmp_path / "stored")
    (without,) = run_ranks(RANK, 1, tmp_path / "without", "")
    filling = run_ranks(RANK, 2, tmp_path / "filling", stored)
    knowing = run_ranks(RANK, 2, tmp_path / "knowing", stored)
    (alone,) = run_ranks(RANK, 1, tmp_path / "alone", stored)
    entries = 2 * MICROBATCHES + VALIDATION_BATCHES
    assert sum(found["counts"][1] for found in filling) == entries
    assert [found["counts"][1] for found in (*knowing, alone)] == [0, 0, 0]
    for found in (*filling, *knowing, alone):
        assert found["metrics"] == without["metrics"]
        assert all(torch.equal(found["weights"][name], value) for name, value in without["weights"].items())
