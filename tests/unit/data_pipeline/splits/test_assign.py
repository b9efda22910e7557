import csv
import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.index import Dataset
from data_pipeline.listing.samples import Samples, key_of, sample_id_of
from data_pipeline.splits.assign import (
    SplitRow,
    assign_splits,
    carve,
    read_split_csv,
    split_rows,
    write_split_csv,
)

FRACTION = st.just(0.0) | st.floats(0.0, 0.49)
FRACTIONS = st.tuples(FRACTION, FRACTION)
TRAIN, VAL, TEST = range(3)


def dataset_of(labels, splits=None, groups=None):
    """A dataset without files: rows named by their label and number."""
    ids = tuple(f"{label}/{row:05d}.png" for row, label in enumerate(labels))
    count = len(labels)
    return Dataset(
        samples=Samples(
            root="/data",
            classes=tuple(f"class {label}" for label in range(max(labels) + 1)),
            sample_ids=ids,
            keys=np.array([key_of(sample_id) for sample_id in ids], dtype=np.uint64),
            labels=np.array(labels, dtype=np.int64),
            sizes=np.ones((count, 2), dtype=np.int32),
            plain=np.ones(count, dtype=np.bool_),
            content=("",) * count,
        ),
        splits=splits or (None,) * count,
        groups=groups or (None,) * count,
        unreadable=(),
        ignored=0,
    )


@st.composite
def rows(draw, grouped):
    """(keys, labels, groups) of up to 60 samples in up to 4 classes."""
    labels = draw(st.lists(st.integers(0, 3), min_size=1, max_size=60))
    names = st.none() | st.sampled_from("abcdefgh") if grouped else st.none()
    groups = draw(st.lists(names, min_size=len(labels), max_size=len(labels)))
    first = draw(st.integers(0, 2**60))
    return np.arange(first, first + len(labels), dtype=np.uint64), np.array(labels, dtype=np.int64), groups


@given(rows(grouped=True), FRACTIONS, st.integers(0, 2**64 - 1))
def test_every_row_has_a_split_groups_stay_whole_and_every_class_is_trained(table, fractions, seed):
    keys, labels, groups = table
    splits = carve(keys, labels, groups, *fractions, seed)
    assert np.isin(splits, [TRAIN, VAL, TEST]).all()
    for group in set(groups) - {None}:
        assert len({int(split) for split, name in zip(splits, groups, strict=True) if name == group}) == 1
    for label in set(labels.tolist()):
        assert (splits[labels == label] == TRAIN).any()
    val_fraction, test_fraction = fractions
    if val_fraction == 0.0:
        assert VAL not in splits
    if test_fraction == 0.0:
        assert TEST not in splits


@given(rows(grouped=False), FRACTIONS, st.integers(0, 2**64 - 1))
def test_each_class_gives_its_share(table, fractions, seed):
    keys, labels, groups = table
    splits = carve(keys, labels, groups, *fractions, seed)
    for label in set(labels.tolist()):
        counts = np.bincount(splits[labels == label], minlength=3)
        count = counts.sum()
        for split, fraction, enough in ((VAL, fractions[0], 2), (TEST, fractions[1], 3)):
            assert counts[split] <= max(fraction * count + 0.5, 1)
            if count >= 10:
                assert counts[split] >= fraction * count - 1.5
            if fraction > 0 and count >= enough:
                assert counts[split] >= 1


@given(rows(grouped=True), FRACTIONS, st.integers(0, 2**64 - 1), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(table, fractions, seed, random):
    keys, labels, groups = table
    order = list(range(len(keys)))
    random.shuffle(order)
    splits = carve(keys, labels, groups, *fractions, seed)
    shuffled = carve(keys[order], labels[order], [groups[row] for row in order], *fractions, seed)
    assert np.array_equal(shuffled, splits[order])


@pytest.mark.parametrize(
    ("count", "counts"),
    [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (4, [2, 1, 1]), (10, [6, 2, 2]), (100, [70, 15, 15])],
)
def test_small_classes(count, counts):
    keys, labels = np.arange(count, dtype=np.uint64), np.zeros(count, dtype=np.int64)
    assert np.bincount(carve(keys, labels, [None] * count, 0.15, 0.15, 0), minlength=3).tolist() == counts


def test_large_shares_leave_a_training_image():
    for count in range(1, 12):
        keys, labels = np.arange(count, dtype=np.uint64), np.zeros(count, dtype=np.int64)
        counts = np.bincount(carve(keys, labels, [None] * count, 0.5, 0.49, 0), minlength=3)
        assert counts[TRAIN] >= 1
        assert counts[VAL] >= counts[TEST] >= 0


def test_seeds_choose_differently_and_evenly():
    keys, labels = np.arange(20, dtype=np.uint64), np.zeros(20, dtype=np.int64)
    splits = np.array([carve(keys, labels, [None] * 20, 0.25, 0.25, seed) for seed in range(400)])
    assert len(np.unique(splits, axis=0)) > 390
    often = (splits == VAL).mean(axis=0)
    assert np.abs(often - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 400)


def test_one_more_image_moves_few_others():
    keys, labels = np.arange(200, dtype=np.uint64), np.zeros(200, dtype=np.int64)
    before = carve(keys[:-1], labels[:-1], [None] * 199, 0.15, 0.15, 1)
    after = carve(keys, labels, [None] * 200, 0.15, 0.15, 1)
    assert (before != after[:-1]).sum() <= 2


def test_groups_are_shared_out_like_single_images():
    """Twenty parts of five views and two classes: about the shares that were asked for."""
    groups = [f"part {row // 5}" for row in range(100)]
    labels = np.array([row // 5 % 2 for row in range(100)])
    splits = carve(np.arange(100, dtype=np.uint64), labels, groups, 0.2, 0.2, 3)
    assert np.bincount(splits, minlength=3).tolist() == [60, 20, 20]
    for label in (0, 1):
        assert np.bincount(splits[labels == label], minlength=3).tolist() == [30, 10, 10]


def test_few_large_groups_serve_every_split_and_single_images_make_up_the_rest():
    groups = ["a"] * 40 + ["b"] * 30 + ["c"] * 20 + [None] * 10
    splits = carve(np.arange(100, dtype=np.uint64), np.zeros(100, dtype=np.int64), groups, 0.2, 0.2, 3)
    assert {splits[0], splits[40], splits[70]} == {TRAIN, VAL, TEST}
    assert splits[0] == TRAIN
    assert (splits[90:] == TRAIN).all()


def test_a_class_of_one_group_is_trained_on():
    labels = np.array([0] * 30 + [1] * 5)
    groups = [None] * 30 + ["the only part"] * 5
    splits = carve(np.arange(35, dtype=np.uint64), labels, groups, 0.2, 0.2, 3)
    assert (splits[30:] == TRAIN).all()


@pytest.mark.parametrize("alone", [0, 1])
def test_a_class_keeps_a_training_image_against_the_pull_of_another(alone):
    """The large group fills train of class 0, so the small one is wanted in val, with all but `alone` of class 1."""
    groups = ["large"] * 50 + ["small"] * 22 + [None] * alone
    labels = np.array([0] * 70 + [1] * (2 + alone))
    splits = carve(np.arange(len(labels), dtype=np.uint64), labels, groups, 0.15, 0.15, 0)
    assert splits[0] == TRAIN
    if alone:
        assert splits[50] == VAL
    assert (splits[labels == 1] == TRAIN).any()


def test_folders_of_splits_stay():
    splits = ("train", "train", "val", "test")
    dataset = dataset_of([0, 1, 0, 1], splits)
    assert assign_splits(dataset, DataConfig(val_fraction=0.5), 0) == dataset


@pytest.mark.parametrize("with_test", [True, False])
def test_val_is_carved_out_of_train_and_test_left_alone(with_test):
    splits = ["train"] * 40 + (["test"] * 10 if with_test else ["train"] * 10)
    dataset = dataset_of([row % 2 for row in range(50)], tuple(splits))
    assigned = assign_splits(dataset, DataConfig(val_fraction=0.2), 0)
    if with_test:
        assert Counter(assigned.splits) == {"train": 32, "val": 8, "test": 10}
        assert assigned.splits[40:] == ("test",) * 10
    else:
        assert Counter(assigned.splits) == {"train": 40, "val": 10}


def test_class_folders_give_all_three_by_groups_and_seed():
    labels = [row % 2 for row in range(200)]
    groups = tuple(f"g{row // 4}" for row in range(200))
    dataset = dataset_of(labels, groups=groups)
    one, same, other = (assign_splits(dataset, DataConfig(), seed) for seed in (1, 1, 2))
    for split, share in (("train", 140), ("val", 30), ("test", 30)):
        assert abs(Counter(one.splits)[split] - share) <= 4
    assert one == same
    assert one.splits != other.splits
    for first in range(0, 200, 4):
        assert len(set(one.splits[first : first + 4])) == 1
    assert replace(one, splits=dataset.splits) == dataset


ONE_PER_CLASS = ("a",) * 10 + ("b",) * 10
TWO_PER_CLASS = ("a", "b") * 5 + ("c", "d") * 5


@pytest.mark.parametrize(
    ("groups", "splits", "settings", "message"),
    [
        (("a",) * 20, None, {}, r"nothing was left for val of 20 images in 1 group .*data.val_fraction=0.15"),
        (ONE_PER_CLASS, None, {}, r"nothing was left for val of 20 images in 2 groups .*; use finer groups, another "
         r"data.val_fraction, or a val split in the data"),
        (ONE_PER_CLASS, ("train",) * 20, {}, r"nothing was left for val"),
        (TWO_PER_CLASS, None, {}, r"nothing was left for test of .*, or data.test_fraction=0 for none"),
        (TWO_PER_CLASS, None, {"test_fraction": 0.0}, None),
        (TWO_PER_CLASS, ("train",) * 20, {}, None),
        (ONE_PER_CLASS, None, {"val_fraction": 0.0, "test_fraction": 0.0}, None),
        (ONE_PER_CLASS, ("val",) * 2 + ("train",) * 18, {}, None),
    ],
)  # fmt: skip
def test_a_split_that_was_asked_for_is_not_empty(groups, splits, settings, message):
    dataset = dataset_of([row // 10 for row in range(20)], splits, groups)
    if message is None:
        assert assign_splits(dataset, DataConfig(**settings), 0)
    else:
        with pytest.raises(DataError, match=message):
            assign_splits(dataset, DataConfig(**settings), 0)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20) | st.text(
    st.sampled_from("=+-@\t\r'1,"), min_size=1, max_size=4
)
ROWS = st.lists(
    st.builds(
        SplitRow,
        sample_id=TEXT | st.binary(min_size=1, max_size=20).map(lambda name: sample_id_of(name.replace(b"\0", b"0"))),
        split=st.sampled_from(["train", "val", "test"]),
        label=TEXT,
        group=st.none() | TEXT,
        fold=st.none() | st.integers(0, 9),
    ),
    max_size=8,
    unique_by=lambda row: row.sample_id,
)


@given(ROWS)
def test_split_csv_round_trips(table):
    text = write_split_csv(table)
    assert read_split_csv(text) == table
    assert read_split_csv(text.encode().decode()) == table


def test_split_csv_has_its_columns():
    dataset = dataset_of([0, 1], ("train", "val"), ("part, 1", None))
    text = write_split_csv(split_rows(dataset))
    lines = list(csv.reader(io.StringIO(text, newline="")))
    assert lines == [
        ["sample_id", "split", "label", "group", "fold"],
        ["0/00000.png", "train", "class 0", "part, 1", ""],
        ["1/00001.png", "val", "class 1", "", ""],
    ]


HEADER = "sample_id,split,label,group,fold\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged"),
        ("sample_id,split\n", r"has the columns \['sample_id', 'split'\]"),
        (HEADER + "a,train,x,\n", "record 2 has 4 columns"),
        (HEADER + "a,dev,x,,\n", "record 2 has split='dev'; use one of train, val, test"),
        (HEADER + "a,train,x,,1\nb,val,x,,first\n", "record 3 has fold='first'"),
        (HEADER + "a,train,x,,-1\n", "fold='-1'"),
        (HEADER + "a,train,x,,\na,val,x,,\n", "sample_id='a' twice"),
        (HEADER + '"a,train,x,,\n', "damaged"),
        (HEADER + '"a"b,train,x,,\n', "damaged"),
    ],
)
def test_a_damaged_split_csv_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        read_split_csv(text)
