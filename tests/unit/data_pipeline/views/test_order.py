import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_pipeline.views.order import EpochCut, balanced_order, block_order, epoch_order, occurrence_keys, of_rank

SIZES = st.tuples(st.integers(1, 8), st.integers(1, 4)).map(lambda pair: (2 * pair[0] * pair[1], 2 * pair[0]))
KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=60, unique=True).map(lambda keys: np.array(keys, dtype=np.uint64))
SEEDS = st.integers(0, 2**64 - 1)


def epoch_of(cut):
    return list(cut.from_step(0))


@given(st.integers(0, 200), SIZES, st.booleans())
def test_each_sample_is_seen_once_in_order(samples, sizes, drop_last):
    cut = EpochCut(samples, *sizes, drop_last=drop_last)
    seen = [row for step in epoch_of(cut) for part in step for row in range(part.start, part.stop)]
    kept = samples // sizes[0] * sizes[0] if drop_last else samples
    assert seen == list(range(kept))


@given(st.integers(0, 200), SIZES, st.booleans())
@example(65, (64, 32), False)
@example(33, (64, 32), False)
@example(97, (64, 32), False)
def test_microbatches_have_their_size_but_for_the_last_and_none_is_alone(samples, sizes, drop_last):
    global_batch_size, microbatch_size = sizes
    cut = EpochCut(samples, *sizes, drop_last=drop_last)
    steps = epoch_of(cut)
    assert len(steps) == cut.steps
    parts = list(itertools.chain.from_iterable(steps))
    assert all(part.size == microbatch_size for part in parts[:-1])
    assert all(1 < part.size <= microbatch_size + 1 for part in parts if samples > 1)
    for step in steps[:-1]:
        assert sum(part.size for part in step) == global_batch_size
    for number, step in enumerate(steps):
        assert [(part.step, part.index) for part in step] == [(number, index) for index in range(len(step))]
        assert sum(part.size for part in step) <= global_batch_size + 1
    assert cut.largest_microbatch == max((part.size for part in parts), default=0)


@pytest.mark.parametrize(
    ("samples", "drop_last", "sizes"),
    [
        (8, False, [[2, 2], [2, 2]]),
        (9, False, [[2, 2], [2, 3]]),
        (10, False, [[2, 2], [2, 2], [2]]),
        (11, False, [[2, 2], [2, 2], [3]]),
        (5, False, [[2, 3]]),
        (3, False, [[3]]),
        (1, False, [[1]]),
        (0, False, []),
        (11, True, [[2, 2], [2, 2]]),
        (9, True, [[2, 2], [2, 2]]),
        (3, True, []),
    ],
)
def test_ends_of_an_epoch(samples, drop_last, sizes):
    cut = EpochCut(samples, 4, 2, drop_last=drop_last)
    assert [[part.size for part in step] for step in epoch_of(cut)] == sizes


@given(st.integers(1, 150), SIZES, st.data())
def test_any_worker_count_and_restart_computes_the_same_microbatches(samples, sizes, data):
    cut = EpochCut(samples, *sizes)
    undisturbed = epoch_of(cut)
    # The job stops before a step, and goes on with another worker count, any number of times.
    restarts = sorted(data.draw(st.lists(st.integers(0, cut.steps), max_size=3)))
    seen = []
    for first, end in itertools.pairwise([0, *restarts, cut.steps]):
        world_size = data.draw(st.sampled_from([1, 2, 3, 5]))
        ranks = [
            [of_rank(step, rank, world_size) for step in itertools.islice(cut.from_step(first), end - first)]
            for rank in range(world_size)
        ]
        for step in zip(*ranks, strict=True):
            longest = max(map(len, step))
            assert longest - min(map(len, step)) <= 1
            rounds = itertools.chain.from_iterable(itertools.zip_longest(*step))
            seen.append([part for part in rounds if part is not None])
    assert seen == undisturbed


@given(st.integers(0, 100), SIZES)
def test_a_step_beyond_the_epoch_is_an_error(samples, sizes):
    cut = EpochCut(samples, *sizes)
    for step in (-1, cut.steps, cut.steps + 5):
        with pytest.raises(IndexError, match=f"step {step} "):
            cut.step(step)
    assert list(cut.from_step(cut.steps)) == []


@pytest.mark.parametrize(("whole", "part"), [(64, 3), (64, 48), (30, 4), (4, 8)])
def test_sizes_that_do_not_fit_are_refused(whole, part):
    with pytest.raises(ValueError, match=f"microbatch_size={part} .*global_batch_size={whole}"):
        EpochCut(100, whole, part)


@given(SEEDS, st.integers(0, 1000), KEYS, st.randoms(use_true_random=False))
def test_an_order_follows_the_keys_not_the_rows(seed, epoch, keys, random):
    rows = list(range(len(keys)))
    random.shuffle(rows)
    order = epoch_order(seed, epoch, keys)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(len(keys)))
    shuffled = keys[rows]
    assert np.array_equal(shuffled[epoch_order(seed, epoch, shuffled)], keys[order])


def test_orders_differ_between_epochs_and_seeds_and_are_fair():
    keys = np.arange(6, dtype=np.uint64)
    orders = np.array([epoch_order(1, epoch, keys) for epoch in range(3000)])
    assert len(np.unique(orders, axis=0)) > 600  # of 720
    assert not np.array_equal(epoch_order(1, 0, np.arange(50, dtype=np.uint64)), epoch_order(2, 0, np.arange(50)))
    for place in range(6):
        counts = np.bincount(orders[:, place], minlength=6)
        assert np.abs(counts - 500).max() < 4 * np.sqrt(500 * 5 / 6)


@given(SEEDS, st.integers(0, 100), KEYS, st.integers(1, 9), st.integers(1, 4))
def test_block_order_is_a_permutation_that_stays_in_its_windows(seed, epoch, keys, block_rows, window_blocks):
    order = block_order(seed, epoch, keys, block_rows, window_blocks)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(len(keys)))
    blocks = epoch_order(seed, epoch, np.arange(-(-len(keys) // block_rows), dtype=np.uint64))
    start = 0
    for first in range(0, len(blocks), window_blocks):
        window = blocks[first : first + window_blocks]
        rows = [row for block in window for row in range(block * block_rows, (block + 1) * block_rows)]
        rows = [row for row in rows if row < len(keys)]
        assert sorted(order[start : start + len(rows)].tolist()) == sorted(rows)
        start += len(rows)
    assert start == len(keys)


def test_block_order_shuffles_blocks_and_rows():
    keys = np.arange(4096, dtype=np.uint64)
    order = block_order(5, 0, keys, 64, 4)
    assert len({row // 64 for row in order[:256].tolist()}) == 4
    assert np.abs(np.diff(order[:256])).max() > 64  # rows of different blocks mix
    assert not np.array_equal(order, block_order(5, 1, keys, 64, 4))


# Balanced sampling

LABELLED = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 5)), max_size=60, unique_by=lambda pair: pair[0]
)


def columns(pairs):
    keys = np.array([key for key, _ in pairs], dtype=np.uint64)
    return keys, np.array([label for _, label in pairs], dtype=np.int64)


@given(SEEDS, st.integers(0, 1000), LABELLED)
def test_a_balanced_epoch_has_as_much_of_each_class_and_repeats_none_before_all_were_seen(seed, epoch, pairs):
    keys, labels = columns(pairs)
    rows, occurrences = balanced_order(seed, epoch, keys, labels)
    assert (rows.dtype, occurrences.dtype) == (np.int64, np.uint64)
    assert len(rows) == len(occurrences) == len(keys)
    visits = np.bincount(labels[rows], minlength=6)[np.unique(labels)]
    assert len(visits) == 0 or visits.max() - visits.min() <= 1
    for label in np.unique(labels).tolist():
        of_sample = np.bincount(rows[labels[rows] == label], minlength=len(keys))[labels == label]
        assert of_sample.max() - of_sample.min() <= 1
    # A sample's visits are numbered from 0 on, each number once.
    for row in range(len(keys)):
        assert sorted(occurrences[rows == row].tolist()) == list(range((rows == row).sum()))


@given(SEEDS, st.integers(0, 1000), LABELLED, st.randoms(use_true_random=False))
def test_a_balanced_order_follows_the_keys_not_the_rows(seed, epoch, pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    keys, labels = columns(pairs)
    other_keys, other_labels = columns(shuffled)
    rows, occurrences = balanced_order(seed, epoch, keys, labels)
    other_rows, other_occurrences = balanced_order(seed, epoch, other_keys, other_labels)
    assert np.array_equal(keys[rows], other_keys[other_rows])
    assert np.array_equal(occurrences, other_occurrences)


@pytest.mark.slow
def test_balanced_orders_differ_between_epochs_and_seeds_and_are_fair():
    keys, labels = np.arange(60, dtype=np.uint64), np.repeat([0, 1, 2], [44, 10, 6])
    orders = [balanced_order(1, epoch, keys, labels)[0] for epoch in range(1200)]
    assert len({order.tobytes() for order in orders}) == len(orders)
    assert not np.array_equal(balanced_order(2, 0, keys, labels)[0], orders[0])
    # 20 of the large class come each epoch; over many epochs all equally often.
    seen = np.bincount(np.concatenate(orders), minlength=60)[:44]
    assert np.abs(seen - 1200 * 20 / 44).max() < 4.5 * np.sqrt(1200 * 20 / 44 * 24 / 44)
    # Classes are mixed: each place of an epoch is any class's a third of the time.
    for place in (0, 29, 59):
        counts = np.bincount(labels[[order[place] for order in orders]], minlength=3)
        assert np.abs(counts - 400).max() < 4.5 * np.sqrt(400 * 2 / 3)


def test_the_odd_visits_go_to_every_class_in_turn():
    keys, labels = np.arange(10, dtype=np.uint64), np.repeat([0, 1, 2], [6, 3, 1])
    visits = [np.bincount(labels[balanced_order(3, epoch, keys, labels)[0]]) for epoch in range(600)]
    more = np.bincount(np.argmax(visits, axis=1), minlength=3)
    assert np.abs(more - 200).max() < 4.5 * np.sqrt(600 * 2 / 9)


@given(KEYS, st.integers(1, 5))
def test_a_repeat_has_another_key_and_the_first_visit_the_samples_own(keys, repeats):
    first = occurrence_keys(keys, np.zeros(len(keys), dtype=np.uint64))
    assert np.array_equal(first, keys)
    found = [occurrence_keys(keys, np.full(len(keys), n, dtype=np.uint64)) for n in range(repeats + 1)]
    assert len(np.unique(np.concatenate(found))) == len(keys) * (repeats + 1)
    mixed = np.arange(len(keys), dtype=np.uint64) % np.uint64(repeats + 1)
    assert occurrence_keys(keys, mixed).tolist() == [found[n][row] for row, n in enumerate(mixed.tolist())]
