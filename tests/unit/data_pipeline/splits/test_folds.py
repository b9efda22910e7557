"""Folds of a cross-validation: laws over any labels and groups, and what runs make of them."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.index import Dataset
from data_pipeline.listing.samples import Samples, key_of
from data_pipeline.splits.assign import assign_splits, read_split_csv, split_rows, write_split_csv
from data_pipeline.splits.folds import assign_folds

CLASSES = ("a", "b", "c")
SEEDS = st.integers(0, 2**64 - 1)


@st.composite
def tables(draw: st.DrawFn, grouped: bool, pure: bool = False) -> tuple[Any, Any, list[str | None], int]:
    """(keys, labels, groups, folds) of samples in up to three classes, each with as many images as folds at least.

    `pure`: no group has two classes, and each class has as many groups as folds at least.
    """
    folds = draw(st.integers(2, 5))
    counts = draw(st.lists(st.just(0) | st.integers(folds, 25), min_size=3, max_size=3).filter(any))
    labels = draw(st.permutations([label for label, count in enumerate(counts) for _ in range(count)]))
    few = st.sampled_from("abcdefghijkl"[: draw(st.integers(1, 12))])
    names = draw(st.sampled_from([st.none() | few, few])) if grouped else st.none()
    groups = draw(st.lists(names, min_size=len(labels), max_size=len(labels)))
    if pure:
        seen: Counter[int] = Counter()
        for row, (label, name) in enumerate(zip(labels, groups, strict=True)):
            groups[row] = f"{label} {seen[label] if seen[label] < folds else name}"
            seen[label] += 1
    first = draw(st.integers(0, 2**60))
    return np.arange(first, first + len(labels), dtype=np.uint64), np.array(labels, dtype=np.int64), groups, folds


@given(tables(grouped=False), SEEDS)
def test_every_image_is_in_one_fold_and_classes_differ_by_one_at_most(table: Any, seed: int) -> None:
    keys, labels, groups, folds = table
    found = assign_folds(keys, labels, groups, CLASSES, folds, seed)
    assert found.dtype == np.int64
    assert found.shape == labels.shape
    for label in np.unique(labels):
        held = np.bincount(found[labels == label], minlength=folds)
        assert len(held) == folds
        assert held.max() - held.min() <= 1
    assert np.ptp(np.bincount(found, minlength=folds)) <= len(np.unique(labels))


@given(tables(grouped=True) | tables(grouped=True, pure=True), SEEDS)
def test_groups_stay_whole_and_every_fold_has_every_class(table: Any, seed: int) -> None:
    keys, labels, groups, folds = table
    try:
        found = assign_folds(keys, labels, groups, CLASSES, folds, seed)
    except DataError as error:
        assert re.search("group.*, fewer than data.folds|has no image in fold", str(error))  # noqa: PT017 - or else
        return
    assert np.isin(found, range(folds)).all()
    for group in set(groups) - {None}:
        assert len({int(fold) for fold, name in zip(found, groups, strict=True) if name == group}) == 1
    for label in np.unique(labels):
        assert set(found[labels == label].tolist()) == set(range(folds))


@given(tables(grouped=True, pure=True), SEEDS)
def test_enough_groups_of_one_class_each_always_fill_the_folds(table: Any, seed: int) -> None:
    keys, labels, groups, folds = table
    found = assign_folds(keys, labels, groups, CLASSES, folds, seed)
    assert len(set(zip(labels.tolist(), found.tolist(), strict=True))) == folds * len(np.unique(labels))


@given(tables(grouped=False), SEEDS, st.permutations(range(3)))
def test_the_order_of_the_classes_does_not_change_the_folds(table: Any, seed: int, order: list[int]) -> None:
    keys, labels, groups, folds = table
    classes = tuple(CLASSES[label] for label in order)
    renumbered = np.array([order.index(label) for label in labels.tolist()], dtype=np.int64)
    found = assign_folds(keys, renumbered, groups, classes, folds, seed)
    assert found.tolist() == assign_folds(keys, labels, groups, CLASSES, folds, seed).tolist()


@given(tables(grouped=True), SEEDS, st.randoms(use_true_random=False))
def test_folds_follow_the_keys_not_the_rows(table: Any, seed: int, random: Any) -> None:
    keys, labels, groups, folds = table
    rows = list(range(len(keys)))
    random.shuffle(rows)

    def dealt(order: list[int]) -> dict[int, int] | str:
        try:
            found = assign_folds(keys[order], labels[order], [groups[row] for row in order], CLASSES, folds, seed)
        except DataError as error:
            return str(error)
        return dict(zip(keys[order].tolist(), found.tolist(), strict=True))

    assert dealt(rows) == dealt(list(range(len(keys))))


def test_equal_groups_are_dealt_evenly() -> None:
    labels = np.repeat([0, 1], 60)
    groups: list[str | None] = [f"part {row // 3}" for row in range(120)]
    found = assign_folds(np.arange(120, dtype=np.uint64), labels, groups, CLASSES[:2], 5, 0)
    for label in (0, 1):
        assert np.bincount(found[labels == label]).tolist() == [12] * 5


@pytest.mark.parametrize(
    ("groups", "folds", "message"),
    [
        ([None] * 9, 5, r"class 'b' has 4 images outside of test, fewer than data.folds=5; use fewer"),
        ([None] * 5 + ["one"] * 4, 3, r"class 'b' has 1 group outside of test, fewer than data.folds=3; use fewer"),
        ([None] * 5 + ["one"] * 2 + ["two"] * 2, 3, r"class 'b' has 2 groups outside"),
        ([None] * 5 + ["one"] * 3 + [None], 3, r"class 'b' has 1 group and 1 image alone outside"),
        (["x"] * 3 + ["y"] * 2 + ["x", "x", "y", "z"], 3, r"class 'a' has 2 groups"),
    ],
)
def test_classes_that_folds_would_starve_are_refused(groups: list[str | None], folds: int, message: str) -> None:
    keys, labels = np.arange(9, dtype=np.uint64), np.array([0] * 5 + [1] * 4)
    with pytest.raises(DataError, match=message):
        assign_folds(keys, labels, groups, CLASSES, folds, 0)


def test_seeds_give_other_folds() -> None:
    keys, labels = np.arange(40, dtype=np.uint64), np.zeros(40, dtype=np.int64)
    found = {assign_folds(keys, labels, [None] * 40, CLASSES, 4, seed).tobytes() for seed in range(5)}
    assert len(found) == 5


def dataset_of(labels: list[int], groups: tuple[str | None, ...] = ()) -> Dataset:
    ids = tuple(f"{label}/{row:05d}.png" for row, label in enumerate(labels))
    count = len(labels)
    return Dataset(
        samples=Samples(
            root="/data",
            classes=CLASSES,
            sample_ids=ids,
            keys=np.array([key_of(sample_id) for sample_id in ids], dtype=np.uint64),
            labels=np.array(labels, dtype=np.int64),
            sizes=np.ones((count, 2), dtype=np.int32),
            plain=np.ones(count, dtype=np.bool_),
            content=("",) * count,
        ),
        splits=(None,) * count,
        groups=groups or (None,) * count,
        unreadable=(),
        ignored=0,
    )


def test_each_fold_is_val_once_and_test_stays_as_it_is() -> None:
    dataset = dataset_of([row % 3 for row in range(100)])
    ordinary = assign_splits(dataset, DataConfig(), 7)
    with_column = assign_splits(dataset, DataConfig(folds=4), 7)
    assert with_column.splits == ordinary.splits, "without data.fold, the split is the ordinary one"
    assert ordinary.folds == ()
    assert [fold is None for fold in with_column.folds] == [split == "test" for split in ordinary.splits]
    seen: Counter[str] = Counter()
    for fold in range(4):
        split = assign_splits(dataset, DataConfig(folds=4, fold=fold), 7)
        assert split.folds == with_column.folds
        assert split.rows("test").tolist() == ordinary.rows("test").tolist()
        for sample_id, name, own in zip(split.samples.sample_ids, split.splits, split.folds, strict=True):
            assert (name == "val") == (own == fold)
            seen[sample_id] += name == "val"
    assert sorted(seen.values()) == [0] * len(ordinary.rows("test")) + [1] * (100 - len(ordinary.rows("test")))


def test_given_splits_are_dealt_to_folds_but_for_test() -> None:
    splits = ("train",) * 30 + ("val",) * 15 + ("test",) * 15
    dataset = replace(dataset_of([row % 3 for row in range(60)]), splits=splits)
    split = assign_splits(dataset, DataConfig(folds=3, fold=2), 0)
    assert Counter(split.folds) == {0: 15, 1: 15, 2: 15, None: 15}
    assert Counter(split.splits) == {"train": 30, "val": 15, "test": 15}


def test_folds_that_are_given_stay_and_are_checked() -> None:
    labels, splits = [row % 2 for row in range(24)], ("train",) * 12 + ("val",) * 8 + ("test",) * 4
    dataset = replace(dataset_of(labels), splits=splits, folds=tuple(row // 2 % 4 for row in range(20)) + (None,) * 4)
    split = assign_splits(dataset, DataConfig(folds=4, fold=1), 0)
    assert split.folds == dataset.folds
    assert [row for row, name in enumerate(split.splits) if name == "val"] == [2, 3, 10, 11, 18, 19]
    with pytest.raises(
        DataError, match=r"class 'a' has no image in fold 4 of data.folds=5.*or correct the column fold"
    ):
        assign_splits(dataset, DataConfig(folds=5, fold=1), 0)


def test_folds_are_stored_and_read_back() -> None:
    dataset = assign_splits(dataset_of([row % 3 for row in range(60)]), DataConfig(folds=3), 0)
    rows = read_split_csv(write_split_csv(split_rows(dataset)))
    assert tuple(row.fold for row in rows) == dataset.folds
