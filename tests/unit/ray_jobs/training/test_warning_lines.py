"""What a person is warned of: each once, with the value, the rule and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cluster.storage.lease import take
from cluster.storage.process_identity import ProcessIdentity
from cluster.storage.store import Store
from data_pipeline.config import DataConfig
from data_pipeline.sources.build import evaluation_source, training_source
from data_pipeline.sources.spec import RankShare, SourceSpec
from data_pipeline.sources.synthetic_source import synthetic_samples
from ray_jobs.data.prepare import prepare_data
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.recorder import RunRecorder, RunStart
from ray_jobs.training.warning_lines import OneAnswerWatch, few_images, frozen_at_random
from resnet_dist.checkpoint.progress import Microbatches
from resnet_dist.training.fit import fit
from resnet_dist.training.setup import Setup

CLASSES = (("crack", 20, 5), ("good", 40, 9))


def job(**sections: dict[str, Any]) -> JobConfig:
    return check({"model": {"weights": "none"}, **sections})


@pytest.mark.parametrize(
    ("freezing", "said"),
    [
        ({"preset": "layered"}, ["freezing.preset=layered", "stem is frozen, layer1 and layer2 are bn_frozen;"]),
        ({"freeze_depth": 2}, ["freezing.freeze_depth=2", "stem and layer1 are frozen;"]),
        ({"layer3": "bn_frozen"}, ["freezing.layer3=bn_frozen", "layer3 is bn_frozen;"]),
        (
            {"preset": "gradual"},
            ["freezing.preset=gradual", "stem, layer1, layer2, layer3 and layer4 are frozen at first;"],
        ),
    ],
)
def test_frozen_stages_with_random_weights_are_warned_of(freezing: dict[str, Any], said: list[str]) -> None:
    (line,) = frozen_at_random(job(freezing=freezing))
    assert line.startswith("warning: model.weights=none ")
    assert "\n" not in line
    for part in (*said, "--model.weights imagenet"):
        assert part in line


def test_trained_stages_and_learnt_weights_are_not_warned_of() -> None:
    assert frozen_at_random(job()) == []
    assert frozen_at_random(check({"freezing": {"preset": "layered"}})) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine images of crack and twelve of good in train, ten of each in val, one of each in test."""
    noise = np.random.default_rng(0)
    counts = {"train": (9, 12), "val": (10, 10), "test": (1, 1)}
    for split, of_split in counts.items():
        for name, count in zip(("crack", "good"), of_split, strict=True):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def test_each_split_names_its_classes_of_fewer_than_ten_images(folder: Path) -> None:
    data = prepare_data(check({"data": {"root": str(folder), "source": "reference"}}))
    train, test = few_images(data)
    assert train.startswith("warning: train has few images of crack (9): fewer than 10 ")
    assert test.startswith("warning: test has few images of crack (1), good (1): fewer than 10 ")


def test_a_model_that_answers_one_class_is_warned_of_when_it_begins_to() -> None:
    watch = OneAnswerWatch(CLASSES)
    assert watch.after(1, (0, 1)) == []
    (line,) = watch.after(2, (1,))
    assert line.startswith("warning: after epoch 2 the model answers nothing but good on val, which has 2 classes")
    assert watch.after(3, (1,)) == []
    assert "nothing but crack" in watch.after(4, (0,))[0]
    assert watch.after(5, (0, 1)) == []
    assert "after epoch 6" in watch.after(6, (0,))[0]


def test_where_val_has_one_class_the_model_may_answer_one() -> None:
    assert OneAnswerWatch((("crack", 20, 0), ("good", 40, 9))).after(1, (1,)) == []


@pytest.mark.parametrize("biased", [True, False])
def test_the_log_has_the_warning_of_a_real_training(
    tmp_path: Path, make_setup: Callable[..., Setup], biased: bool
) -> None:
    setup = make_setup(learning_rate=1e-6)
    with torch.no_grad():
        setup.model.fc.bias[1] = 1e4 if biased else 0.0
    config = job(training={"epochs": 1})
    run = RunDirectory(Store.open(str(tmp_path)))
    spec = SourceSpec(DataConfig(source="synthetic", image_size=32), lambda _: np.zeros((1, 1, 3), np.uint8))
    training = training_source(spec, synthetic_samples(16), 16, 4, RankShare())
    validation = evaluation_source(spec, synthetic_samples(9), 4, RankShare())
    state, names = setup.state_at(0), [("a", 6, 3), ("b", 5, 3), ("c", 5, 3)]
    with take(run.store, submission="s", driver=ProcessIdentity.current(), ttl_s=60.0) as lease:
        start = RunStart(config, run, lease, "s", None, Microbatches(4, 0), 1, names)
        with RunRecorder(start, ["hello"], lambda _state, _metrics: True) as recorder:
            fit(state, setup, training, validation, 1, 10, recorder)
    log = (tmp_path / "logs/generation-000001.log").read_text().splitlines()
    status = run.read_status()
    assert status is not None
    assert status.messages == len(log)
    if biased:
        assert state.answered == (1,)
        assert [line for line in log if "nothing but b on val" in line] == log[1:]
    else:
        assert (len(log) == 2) == (len(state.answered) == 1)
