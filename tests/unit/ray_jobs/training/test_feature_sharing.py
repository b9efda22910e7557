"""Whatever decides what frozen stages see or how they compute is in the key, and nothing else is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from data_pipeline.config import AugmentationConfig
from data_pipeline.sources.synthetic_source import synthetic_samples
from ray_jobs.job.toml import check
from ray_jobs.job.toml_codec import merged
from ray_jobs.training.feature_sharing import views_digest

CPU = torch.device("cpu")


TRAIN, VAL = synthetic_samples(9), synthetic_samples(4)
BASE: dict[str, Any] = {"training": {"global_batch_size": 32, "microbatch_size": 16}}


def digest(tree: dict[str, Any] | None = None, **changed: Any) -> str:
    arguments: dict[str, Any] = {"train": TRAIN, "val": VAL, "fingerprint": "f", "microbatch_size": 16}
    arguments |= {"device": CPU, "threads": 2} | changed
    return views_digest(check(merged(BASE, tree or {})), **arguments)


DECIDING: dict[str, Any] = {
    "seed": 1,
    "data": {
        "image_size": 192,
        "image_width": 256,
        "resize": "letterbox",
        "crop_fraction": 0.5,
        "pad_colour": [0, 0, 0],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "bit_depth": 12,
        "order": "blocks",
        "block_rows": 8,
        "window_blocks": 2,
        "sampling": "balanced",
        "drop_last": True,
        "source": "reference",
    },
    "augmentation": {
        "window": "whole",
        "crop_area": [0.5, 1.0],
        "crop_ratio": [0.5, 2.0],
        "horizontal_flip": 0.1,
        "vertical_flip": 0.1,
        "quarter_turns": True,
        "brightness": 0.1,
        "contrast": 0.1,
        "saturation": 0.1,
        "erase": 0.1,
        "erase_area": [0.1, 0.2],
        "erase_ratio": [0.5, 2.0],
    },
    "training": {
        "global_batch_size": 64,
        "mixup_alpha": 0.1,
        "cutmix_alpha": 0.1,
        "precision": "bf16",
        "compile": True,
    },
    "evaluation": {"batch_size": 8},
}
CASES = [
    *({name: value} for name, value in DECIDING.items() if not isinstance(value, dict)),
    *(
        {section: {name: value}}
        for section, values in DECIDING.items()
        if isinstance(values, dict)
        for name, value in values.items()
    ),
]


@pytest.mark.parametrize("tree", CASES, ids=str)
def test_settings_that_decide_change_it(tree: dict[str, Any]) -> None:
    assert digest(tree) != digest()


def test_the_whole_augmentation_is_tried() -> None:
    assert DECIDING["augmentation"].keys() == AugmentationConfig.model_fields.keys()


@pytest.mark.parametrize(
    "tree",
    [
        {"name": "other"},
        {"data": {"root": "elsewhere", "prefetch": 4, "decode_threads": 3, "cache_dir": "c", "max_pixels": 10**7}},
        {"optimizer": {"learning_rate": 0.5, "kind": "adamw"}},
        {"schedule": {"kind": "one_cycle"}},
        {"model": {"dropout": 0.5}},
        {"training": {"epochs": 99, "label_smoothing": 0.1, "ema_decay": 0.9, "microbatch_size": 8}},
        {"checkpoint": {"every_epochs": 2}},
        {"storage": {"root": "s3://b"}},
        {"cluster": {"num_workers": 7}},
    ],
    ids=str,
)
def test_settings_of_the_trial_and_of_where_it_runs_do_not(tree: dict[str, Any]) -> None:
    assert digest(tree) == digest()


@pytest.mark.parametrize(
    "changed",
    [
        {"fingerprint": "g"},
        {"microbatch_size": 8},
        {"threads": 1},
        {"device": torch.device("meta")},
        {"train": VAL, "val": TRAIN},
        {"train": TRAIN.select(np.arange(8))},
        {"train": TRAIN.select(np.arange(9)[::-1])},
        {"train": replace(TRAIN, content=("other", *TRAIN.content[1:]))},
        {"train": replace(TRAIN, labels=TRAIN.labels[::-1])},
        {"train": replace(TRAIN, keys=TRAIN.keys + np.uint64(1))},
        {"train": replace(TRAIN, sizes=TRAIN.sizes + 1)},
        {"val": VAL.select(np.arange(3))},
        {"val": replace(VAL, content=("other", *VAL.content[1:]))},
    ],
    ids=" ".join,
)
def test_data_and_machine_change_it(changed: dict[str, Any]) -> None:
    assert digest(**changed) != digest()


def test_where_the_files_lie_does_not() -> None:
    assert digest(train=replace(TRAIN, root="/elsewhere")) == digest()


@pytest.mark.parametrize("package", ["torch", "torchvision", "nvidia-dali-cuda130", "pillow", "numpy"])
def test_versions_change_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    before = digest()
    monkeypatch.setattr("ray_jobs.job.packages.version", lambda name: "0" if name == package else "1")
    first = digest()
    monkeypatch.setattr("ray_jobs.job.packages.version", lambda _: "1")
    assert len({before, first, digest()}) == 3


def test_the_cpus_instructions_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    assert digest() != before
