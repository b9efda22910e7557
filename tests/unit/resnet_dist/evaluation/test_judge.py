"""Judging a split: the same result however its batches were spread over ranks."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnet_dist.errors import RunError
from resnet_dist.evaluation.judge import Answers, assemble, predict, report
from resnet_dist.evaluation.metrics import METRICS
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from tests.laws import examples

torch.set_num_threads(1)
CPU = torch.device("cpu")
SAMPLES, BATCH_SIZE, CLASSES = 11, 3, 4


@dataclass(frozen=True)
class Batch:
    rows: NDArray[np.int64]
    images: torch.Tensor
    labels: torch.Tensor


@pytest.fixture(scope="module")
def model() -> ResNetClassifier:
    return build_model(Structure("resnet18"), CLASSES, 0.5, seed=1)


def batches(rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
    """Fixed batches by row; every world_size-th is this rank's."""
    images = torch.randn((SAMPLES, 3, 32, 32), generator=torch.Generator().manual_seed(4))
    for first in range(rank * BATCH_SIZE, SAMPLES, world_size * BATCH_SIZE):
        rows = np.arange(first, min(first + BATCH_SIZE, SAMPLES))
        yield Batch(rows, images[first : first + BATCH_SIZE], torch.from_numpy(rows % CLASSES))


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_the_worker_count_does_not_change_a_bit(model: ResNetClassifier, world_size: int) -> None:
    alone = assemble([predict(model, batches(), CPU)], SAMPLES)
    parts = [predict(model, batches(rank, world_size), CPU) for rank in range(world_size)]
    for order in (parts, parts[::-1]):
        assert np.array_equal(assemble(order, SAMPLES), alone)


def test_predict_answers_in_evaluation_mode_without_autograd(model: ResNetClassifier) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows, logits = predict(model, batches(), CPU)
    assert rows.tolist() == list(range(SAMPLES))
    assert (rows.dtype, logits.dtype, logits.shape) == (np.int64, np.float32, (SAMPLES, CLASSES))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        expected = torch.cat([model.eval()(batch.images) for batch in batches()])
    assert np.array_equal(logits, expected.numpy())


def test_precision_bf16_is_close_and_not_the_same(model: ResNetClassifier) -> None:
    _, full = predict(model, batches(), CPU)
    _, half = predict(model, batches(), CPU, "bf16")
    assert half.dtype == np.float32
    assert not np.array_equal(half, full)
    assert np.abs(half - full).max() < 0.05 * np.abs(full).max()


@st.composite
def spread(draw: st.DrawFn) -> tuple[NDArray[np.float32], list[Answers]]:
    """Logits in the split's order, and the same in parts of any size and order, some of them empty."""
    samples = draw(st.integers(1, 20))
    logits = np.arange(3 * samples, dtype=np.float32).reshape(samples, 3)
    order = np.array(draw(st.permutations(range(samples))), dtype=np.int64)
    cuts = sorted(draw(st.lists(st.integers(0, samples), max_size=4)))
    parts = [(rows, logits[rows]) for rows in np.split(order, cuts)]
    return logits, [*parts, (np.empty(0, dtype=np.int64), np.empty((0, 0), dtype=np.float32))]


@given(spread())
def test_assemble_undoes_any_spreading(made: tuple[NDArray[np.float32], list[Answers]]) -> None:
    logits, parts = made
    assert np.array_equal(assemble(parts, len(logits)), logits)


@given(spread(), st.sampled_from(["lost", "doubled", "replaced", "beyond", "negative"]), st.data())
@settings(max_examples=examples(0.5))
def test_assemble_refuses_rows_not_answered_once(
    made: tuple[NDArray[np.float32], list[Answers]], fault: str, data: st.DataObject
) -> None:
    logits, parts = made
    samples = len(logits)
    rows, answers = (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts if len(part[0])]),
    )
    at = data.draw(st.integers(0, samples - 1))
    match fault:
        case "lost":
            rows, answers = np.delete(rows, at), np.delete(answers, at, axis=0)
        case "doubled":
            rows, answers = np.append(rows, rows[at]), np.append(answers, answers[at : at + 1], axis=0)
        case "replaced":
            rows[at] = rows[at - 1] if samples > 1 else 1
        case "beyond":
            rows[at] = samples
        case _:
            rows[at] = -1
    with pytest.raises(ValueError, match="answers to"):
        assemble([(rows, answers)], samples)


def test_an_empty_split_cannot_be_judged() -> None:
    with pytest.raises(ValueError, match="0 parts with answers to 0 samples"):
        assemble([], 0)


def test_a_report_by_hand() -> None:
    logits = np.log(np.array([[8, 1, 1], [1, 8, 1], [8, 1, 1], [1, 1, 8]], dtype=np.float64) / 10).astype(np.float32)
    result = report(logits, np.array([0, 1, 1, 0]), ("chip", "crack", "scratch"), seed=0, bootstrap_samples=200)
    assert result.samples == 4
    assert result.confusion == ((1, 0, 1), (1, 1, 0), (0, 0, 0))
    assert result.metrics["top1"] == 0.5
    assert result.metrics.keys() == set(METRICS)  # three classes: the label would always be among the best five
    assert result.metrics["balanced_accuracy"] == 0.5
    assert result.metrics["macro_f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert result.metrics["log_loss"] == pytest.approx(-(2 * np.log(0.8) + 2 * np.log(0.1)) / 4, rel=1e-6)
    scratch = result.classes[2]
    assert (scratch.name, scratch.precision, scratch.recall, scratch.f1, scratch.support) == ("scratch", 0, 0, 0, 0)
    crack = result.classes[1]
    assert (crack.precision, crack.recall, crack.f1, crack.support) == (1.0, 0.5, pytest.approx(2 / 3), 2)


def test_a_report_is_pure_and_plain_json() -> None:
    logits = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32)
    labels = np.arange(60) % 7
    classes = tuple("abcdefg")
    first, again = (report(logits, labels, classes, seed=3, bootstrap_samples=100) for _ in range(2))
    assert first == again
    written = json.loads(json.dumps(first.to_json(), allow_nan=False))
    assert written == first.to_json()
    assert written["schema"] == 1
    assert set(written["metrics"]) == set(written["intervals_95"]) == {*METRICS, "top5"}
    assert sum(row["support"] for row in written["classes"]) == sum(map(sum, written["confusion"])) == 60
    for name, (low, high) in written["intervals_95"].items():
        assert low <= written["metrics"][name] <= high


@pytest.mark.parametrize("classes", [2, 5, 6, 7])
def test_top5_is_a_metric_above_five_classes(classes: int) -> None:
    logits = np.random.default_rng(0).normal(size=(40, classes)).astype(np.float32)
    result = report(logits, np.arange(40) % classes, tuple("abcdefg"[:classes]), seed=0, bootstrap_samples=100)
    assert result.metrics.keys() == result.intervals.keys() == {*METRICS, *(["top5"] if classes > 5 else [])}
    assert ("top5" in result.metrics) == (classes > 5)


def test_a_class_of_fewer_than_ten_images_is_marked() -> None:
    labels = np.array([0] * 9 + [1] * 10)
    logits = np.eye(3, dtype=np.float32)[labels]
    result = report(logits, labels, ("nine", "ten", "none"), seed=0, bootstrap_samples=100)
    few = "too few images to judge"
    assert [each.remark for each in result.classes] == [few, "", few]
    assert [row["remark"] for row in result.to_json()["classes"]] == [few, "", few]


def test_a_diverged_model_is_refused() -> None:
    logits = np.full((3, 2), np.nan, dtype=np.float32)
    with pytest.raises(RunError, match="3 of 3 samples"):
        report(logits, np.zeros(3, dtype=np.int64), ("a", "b"), seed=0, bootstrap_samples=100)
