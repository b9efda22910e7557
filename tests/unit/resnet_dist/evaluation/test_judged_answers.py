"""Counts of answers at an operating point are those of the runtime, of all images."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from resnet_dist.evaluation.judged_answers import JudgedAnswers, judge_answers
from resnet_dist.evaluation.operating_points import choose
from resnet_dist.runtime.operating_point import REJECTED, OperatingPoint

CLASSES = ("good", "crack", "hole")
P = np.array([[0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]])
LABELS = np.array([0, 0, 1, 2])


def logits_of(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.log(probabilities).astype(np.float32)


def judged(point: OperatingPoint, **recalls: float) -> JudgedAnswers:
    return judge_answers(point, logits_of(P), LABELS, CLASSES, recalls)


def test_every_number_is_of_all_images():
    found = judged(OperatingPoint(reject_below=0.5))
    assert (found.samples, found.right, found.wrong, found.rejected) == (4, 2, 1, 1)
    assert found.metrics["top1"] == 0.5
    assert found.metrics["balanced_accuracy"] == pytest.approx(0.5)
    assert found.metrics["macro_f1"] == pytest.approx((2 / 4 + 1 + 0) / 3)
    good, crack, hole = (found.classes[name] for name in CLASSES)
    assert (good.images, good.found, good.missed, good.rejected, good.false_alarms) == (2, 1, 0, 1, 1)
    assert (good.recall, good.precision) == (0.5, 0.5)
    assert (crack.images, crack.found, crack.recall, crack.precision) == (1, 1, 1.0, 1.0)
    assert (hole.images, hole.found, hole.missed, hole.rejected, hole.false_alarms) == (1, 0, 1, 0, 0)
    nothing = judged(OperatingPoint(reject_below=0.99))
    assert (nothing.rejected, nothing.metrics["top1"]) == (4, 0.0)


def test_a_recall_that_was_asked_for_and_is_missed_is_said_with_its_numbers():
    assert judged(OperatingPoint(reject_below=0.5), good=0.5, crack=1.0).missed_recalls == {}
    missed = judged(OperatingPoint(reject_below=0.5), good=0.51, crack=1.0).missed_recalls
    assert missed == {"good": "1 of 2 images of good are found (50.00 %), 51 % are asked for"}
    without = replace(judged(OperatingPoint(), hole=0.9).classes["hole"], images=0, missed=0)
    assert not without.misses_recall


splits = st.integers(1, 30).flatmap(
    lambda count: st.tuples(
        hnp.arrays(np.float32, (count, 3), elements=st.integers(-6, 6).map(float)),
        hnp.arrays(np.int64, count, elements=st.integers(0, 2)),
    )
)


@given(splits, st.floats(0.01, 1.0), st.sampled_from(CLASSES), st.floats(0, 0.999), st.floats(0.5, 3))
def test_the_recall_asked_of_a_class_is_there_whatever_is_rejected(
    split: tuple[NDArray[np.float32], NDArray[np.int64]],
    recall: float,
    name: str,
    reject_below: float,
    temperature: float,
):
    logits, labels = split
    labels[0] = CLASSES.index(name)
    p = OperatingPoint(temperature).probabilities(logits)
    point = choose(p, labels, CLASSES, temperature, {name: recall}, {}, reject_below)
    found = judge_answers(point, logits, labels, CLASSES, {name: recall})
    assert found.missed_recalls == {}
    assert found.classes[name].recall >= recall - 1e-9
    assert found.classes[name].rejected == 0 or recall < 1


@given(splits, st.floats(0.01, 1.0), st.floats(0.01, 1.0), st.floats(0, 0.999))
def test_what_is_stated_is_what_the_runtime_decides(
    split: tuple[NDArray[np.float32], NDArray[np.int64]], crack: float, hole: float, reject_below: float
):
    logits, labels = split
    labels = np.concatenate([labels, [1, 2]])
    logits = np.concatenate([logits, np.zeros((2, 3), np.float32)])
    recalls = {"crack": crack, "hole": hole}
    p = OperatingPoint(1.5).probabilities(logits)
    point = choose(p, labels, CLASSES, 1.5, recalls, {}, reject_below)
    # As a bundle carries it, and as production asks it: image by image.
    shipped = OperatingPoint.from_json(point.to_json(CLASSES), CLASSES)
    answers = [int(shipped.answers(shipped.probabilities(row[None]))[0]) for row in logits]
    pairs = Counter(zip(labels.tolist(), answers, strict=True))
    found = judge_answers(point, logits, labels, CLASSES, recalls)
    assert found.samples == found.right + found.wrong + found.rejected == len(labels)
    assert found.metrics["top1"] == pytest.approx(np.mean(labels == answers))
    for number, name in enumerate(CLASSES):
        of = found.classes[name]
        own = [answer for label, answer in zip(labels.tolist(), answers, strict=True) if label == number]
        assert of.images == len(own) == of.found + of.missed + of.rejected
        assert of.found == pairs[number, number]
        assert of.rejected == pairs[number, REJECTED]
        assert of.false_alarms == sum(n for (label, answer), n in pairs.items() if answer == number != label)
        assert of.recall == pytest.approx(of.found / max(len(own), 1))
        assert (name in found.missed_recalls) == (name in recalls and of.recall < recalls[name] - 1e-9)
