"""Whatever options are on: a resumed run is the undisturbed one, and exact sums know no worker count, to the bit."""

import os
import random
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from data_pipeline.listing.samples import Samples, key_of
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.views.randomness import SeededDraw
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.job.toml_codec import merged
from resnet_dist.compression.config import DistillationConfig
from resnet_dist.compression.distillation.student_loss import Distillation
from resnet_dist.compression.distillation.teacher import Teacher
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.training.fit import fit
from resnet_dist.training.rank_group import RankGroup
from resnet_dist.training.setup import Setup
from resnet_dist.training.state import TrainState
from resnet_dist.training.train_step import StepTotals

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CPU = torch.device("cpu")
EPOCHS = 3
CASES = 3

CHOICES: dict[str, list[Any]] = {
    "model.dropout": [0.0, 0.3],
    "model.squeeze_excite": [False, True],
    "freezing": [
        {},
        {"freeze_depth": 2},
        {"preset": "layered"},
        {"preset": "gradual"},
        {"preset": "linear_probe_then_finetune", "probe_epochs": 1},
        {"stem": "bn_frozen", "layer1": "bn_frozen"},
    ],
    "optimizer.kind": ["sgd", "adamw"],
    "optimizer.clip_norm": [None, 1.0],
    "optimizer.stage_decay": [1.0, 0.7],
    "schedule.kind": ["cosine", "one_cycle", "step", "polynomial", "plateau", "cosine_then_plateau"],
    "schedule.plateau_patience": [0],
    "training.precision": ["fp32", "fp32", "bf16", "fp16"],
    "training.activation_checkpointing": [False, True],
    "training.loss": ["cross_entropy", "focal"],
    "training.class_weights": ["none", "balanced"],
    "training.logit_adjustment": [0.0, 1.0],
    "training.mixup_alpha": [0.0, 0.4],
    "training.cutmix_alpha": [0.0, 1.0],
    "training.ema_decay": [None, 0.9],
    "training.early_stopping": [False, True],
    "training.early_stopping_patience": [1],
    "data.sampling": ["all", "balanced"],
    "distillation": [
        {},
        {"teacher": "large"},
        {"teacher": "large", "temperature": 4.0, "weight": 0.5, "features": 2.0},
    ],
}
BASE: dict[str, Any] = {
    "data": {"source": "synthetic", "image_size": 32},
    "model": {"arch": "resnet18", "weights": "none"},
    "optimizer": {"learning_rate": 0.02},
    "training": {"epochs": EPOCHS, "global_batch_size": 16, "microbatch_size": 4, "reduction": "exact"},
}


def sampled(generator: random.Random) -> JobConfig:
    """A job with a random value of every option."""
    tree = BASE
    for key, values in CHOICES.items():
        section, _, field = key.partition(".")
        value = generator.choice(values)
        if value is not None:
            tree = merged(tree, {section: {field: value} if field else value})
    if tree["data"].get("sampling") == "balanced":
        tree = merged(tree, {"training": {"class_weights": "none", "logit_adjustment": 0.0}})
    return check(tree)


def samples(count: int) -> Samples:
    ids = tuple(f"{row}.png" for row in range(count))
    labels = np.arange(count) % 7 // 3  # unbalanced: 3, 3, 1 of 7
    return Samples(
        root="/nowhere",
        classes=("a", "b", "c"),
        sample_ids=ids,
        keys=np.array([key_of(name) for name in ids], dtype=np.uint64),
        labels=labels.astype(np.int64),
        sizes=np.full((count, 2), 32, dtype=np.int32),
        plain=np.ones(count, dtype=np.bool_),
        content=ids,
    )


class StopError(Exception):
    """Ends training where a process would have been killed."""


class Keeper:
    """Keeps what a checkpoint would hold after a step, or after an epoch's validation."""

    def __init__(self, stop_at: int | None, stop_after: int | None) -> None:
        self.stop_at = stop_at
        self.stop_after = stop_after
        self.kept: dict[str, Any] = {}

    def step_done(self, state: TrainState, _totals: StepTotals, _waited: float) -> None:
        if state.step == self.stop_at:
            self.keep(state)
            raise StopError

    def epoch_done(self, state: TrainState, _metrics: dict[str, float]) -> bool:
        self.keep(state)
        if state.epoch == self.stop_after:
            raise StopError
        return True

    def keep(self, state: TrainState) -> None:
        self.kept = {
            "weights": state.judged_weights(),
            "training_state": state.training_state(),
            "at": [state.step, state.epoch, state.step_in_epoch, state.validation_owed],
            "plateau": state.plateau.to_json(),
            "stopping": state.stopping.to_json() if state.stopping else None,
        }


def distillation_of(config: DistillationConfig) -> Distillation:
    model = build_model(Structure("resnet18"), 3, 0.0, seed=9)
    return Distillation(config, Teacher(model, with_maps=config.features > 0.0), (32, 32))


def train(
    job: JobConfig,
    group: RankGroup,
    found: dict[str, Any] | None = None,
    stop_at: int | None = None,
    stop_after: int | None = None,
) -> Keeper:
    """Train from the start, or from what was kept, to the end, to a step, or to the validation of an epoch."""
    torch.set_num_threads(1)
    learn, judge = samples(47), samples(11)

    model = build_model(job.model.structure, 3, job.model.dropout, job.seed)
    if found is not None:
        model.load_state_dict(found["weights"])
    setup = Setup(
        model=model.to(memory_format=torch.channels_last),
        config=job.model,
        freezing=job.freezing,
        optimizer=job.optimizer,
        schedule=job.schedule,
        schedule_epochs=1 if job.schedule.kind == "cosine_then_plateau" else job.training.epochs,
        training=job.training,
        class_counts=np.bincount(learn.labels),
        input_size=(32, 32),
        draw=SeededDraw(job.seed),
        group=group,
        device=CPU,
        distillation=None if job.distillation.teacher is None else distillation_of(job.distillation),
    )
    size = setup.fitting_microbatch(found["at"][1] if found else 0, job.training.microbatch_size)
    assert size == job.training.microbatch_size
    state = setup.state_at(found["at"][1], found["plateau"], found["stopping"]) if found else setup.state_at(0)
    if found is not None:
        state.restore(found["training_state"])
        state.step, state.epoch, state.step_in_epoch, state.validation_owed = found["at"]

    def decode(_: bytes) -> np.ndarray:
        raise AssertionError("synthetic images need no file")

    spec = SourceSpec(job.data, decode, job.augmentation, job.seed)
    share = RankShare(group.rank, group.world_size)
    training = training_source(spec, learn, 16, size, share)
    validation = evaluation_source(spec, judge, 4, share)
    keeper = Keeper(stop_at, stop_after)
    with training, validation:
        try:
            fit(state, setup, training, validation, job.training.epochs, job.training.max_skipped_steps, keeper)
        except StopError:
            assert stop_at is not None or stop_after is not None
    return keeper


def flat(kept: dict[str, Any]) -> dict[str, torch.Tensor]:
    found = dict(kept["weights"])
    found |= {f"raw {name}": value for name, value in kept["training_state"]["raw_weights"].items()}
    for parameter, moments in kept["training_state"]["optimizer"]["state"].items():
        found |= {f"{name} of {parameter}": torch.as_tensor(value) for name, value in moments.items()}
    return found


def assert_same(one: dict[str, Any], other: dict[str, Any], what: str) -> None:
    first, second = flat(one), flat(other)
    assert first.keys() == second.keys(), what
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different, f"{what}: {len(different)} of {len(first)} tensors differ, such as {different[:3]}"
    for key in ("at", "plateau", "stopping"):
        assert one[key] == other[key], what
    assert one["training_state"]["scale"] == other["training_state"]["scale"], what


def rank_main(rank: int, world_size: int, jobs: list[JobConfig], folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/group-{world_size}", rank=rank, world_size=world_size)
    for number, job in enumerate(jobs):
        keeper = train(job, RankGroup(rank, world_size))
        if rank == 0:
            torch.save(keeper.kept, f"{folder}/{world_size}-{number}.pt")
    dist.destroy_process_group()


def test_sampled_options_resume_to_the_bit_and_know_no_worker_count(tmp_path: Path) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    jobs = [sampled(generator) for _ in range(CASES)]
    undisturbed = [train(job, RankGroup()).kept for job in jobs]
    for number, (job, whole) in enumerate(zip(jobs, undisturbed, strict=True)):
        stop_at = generator.randint(1, max(whole["at"][0] - 1, 1))
        options = {
            key: value
            for key, value in job.model_dump().items()
            if key in {"model", "freezing", "training", "distillation"}
        }
        print(f"case {number}, ended at step {stop_at}: {options} {job.optimizer} {job.schedule} {job.data.sampling}")
        kept = tmp_path / "kept.pt"
        for where in ({"stop_at": stop_at}, {"stop_after": 1}):
            torch.save(train(job, RankGroup(), **where).kept, kept)
            found = torch.load(kept, weights_only=True)  # as a checkpoint is read
            assert_same(train(job, RankGroup(), found).kept, whole, f"case {number} resumed, {where}")
    for workers in (2, 3):
        mp.spawn(rank_main, args=(workers, jobs, str(tmp_path)), nprocs=workers)
        for number, whole in enumerate(undisturbed):
            other = torch.load(tmp_path / f"{workers}-{number}.pt", weights_only=True)
            assert_same(other, whole, f"case {number} with {workers} workers")


def resume_main(_: int, job: JobConfig, folder: str) -> None:
    """In a process of its own, which has compiled nothing yet."""
    found = torch.load(f"{folder}/kept.pt", weights_only=True)
    torch.save(train(job, RankGroup(), found).kept, f"{folder}/resumed.pt")


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler on this machine")
@pytest.mark.parametrize("freezing", [{"freeze_depth": 2}, {"preset": "linear_probe_then_finetune", "probe_epochs": 1}])
def test_a_compiled_run_resumes_to_the_bit(tmp_path: Path, freezing: dict[str, Any]) -> None:
    job = check(merged(BASE, {"freezing": freezing, "training": {"compile": True, "epochs": 2}}))
    whole = train(job, RankGroup()).kept
    torch.save(train(job, RankGroup(), stop_at=4).kept, tmp_path / "kept.pt")
    mp.spawn(resume_main, args=(job, str(tmp_path)), nprocs=1)
    assert_same(torch.load(tmp_path / "resumed.pt", weights_only=True), whole, "compiled and resumed")
