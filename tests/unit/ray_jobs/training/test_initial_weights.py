"""A run as first weights: what model.json says of it decides whether it is narrowed."""

from pathlib import Path

import pytest
import torch

from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.run.directory import RunDirectory
from ray_jobs.training.initial_weights import InitialWeights
from resnet_dist.errors import RunError
from resnet_dist.model.resnet import ResNetClassifier
from tests.untrained_run import CLASSES, untrained_run


def job(storage: Path, **model: object) -> JobConfig:
    return check(
        {
            "name": "second",
            "data": {"root": str(storage), "image_size": 32},
            "model": {"weights": "first", **model},
            "storage": {"root": str(storage)},
        }
    )


def test_a_run_begins_its_equal_a_narrower_one_and_no_other(tmp_path: Path) -> None:
    storage = untrained_run(tmp_path, "first")
    own = RunDirectory.named(str(storage), "first").checkpoint("best").weights()
    same = InitialWeights.of(job(storage, arch="resnet18"), len(CLASSES))
    assert same.messages == ["weights: first"]
    assert all(torch.equal(value, own[name]) for name, value in same.weights.items())

    narrow = job(storage, arch="resnet18", widths="0.5")
    begun = InitialWeights.of(narrow, len(CLASSES))
    (message,) = begun.messages
    assert message.startswith("weights: first, narrowed from resnet18 of 11.2 million weights to resnet18 of 2.8")
    network = ResNetClassifier(narrow.model.structure, len(CLASSES), 0.0)
    network.load_state_dict(begun.weights, strict=True)
    assert torch.equal(network.fc.bias, own["fc.bias"])

    with pytest.raises(RunError, match="weights of resnet18 cannot be narrowed to resnet34"):
        InitialWeights.of(job(storage, arch="resnet34"), len(CLASSES))
