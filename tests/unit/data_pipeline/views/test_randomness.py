import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.views.randomness import Purpose, below, draw, unit

WORDS = st.integers(0, 2**64 - 1)
PURPOSES = st.sampled_from(Purpose)
KEYS = st.lists(WORDS, min_size=1, max_size=8, unique=True).map(lambda keys: np.array(keys, dtype=np.uint64))


def numpy_philox(seed, purpose, epoch, key, occurrence, count):
    """The same bits from numpy, whose generator adds one to its counter before the first block."""
    generator = np.random.Philox(
        key=np.array([seed, purpose], dtype=np.uint64),
        counter=np.array([0, key, occurrence, epoch], dtype=np.uint64),
    )
    return generator.random_raw(count)


@given(WORDS, PURPOSES, WORDS, KEYS, WORDS, st.integers(1, 13))
def test_bits_are_those_of_numpys_philox(seed, purpose, epoch, keys, occurrence, count):
    bits = draw(seed, purpose, epoch, keys, count, occurrence)
    assert bits.shape == (len(keys), count)
    assert bits.dtype == np.uint64
    for row, key in enumerate(keys):
        assert np.array_equal(bits[row], numpy_philox(seed, purpose, epoch, key, occurrence, count))


def test_the_bits_never_change():
    keys = np.array([0, 1, 2**64 - 1], dtype=np.uint64)
    assert draw(7, Purpose.VIEW, 3, keys, 2).tolist() == [
        [2672325950562930440, 7430193390216688821],
        [16679127167675709160, 16643542379419562147],
        [9620579351936754421, 2326540443352188078],
    ]
    assert [purpose.value for purpose in Purpose] == [1, 2, 3, 4, 5, 6, 7, 8]


@given(WORDS, PURPOSES, WORDS, KEYS, st.integers(0, 9), st.integers(0, 9))
def test_a_longer_draw_begins_with_the_shorter(seed, purpose, epoch, keys, count, more):
    longer = draw(seed, purpose, epoch, keys, count + more)
    assert np.array_equal(longer[:, :count], draw(seed, purpose, epoch, keys, count))


@given(WORDS, WORDS, KEYS, st.randoms(use_true_random=False))
def test_a_sample_draws_the_same_in_any_row_and_company(seed, epoch, keys, random):
    order = list(range(len(keys)))
    random.shuffle(order)
    whole = draw(seed, Purpose.VIEW, epoch, keys, 5)
    assert np.array_equal(draw(seed, Purpose.VIEW, epoch, keys[order], 5), whole[order])
    assert np.array_equal(draw(seed, Purpose.VIEW, epoch, keys[:1], 5), whole[:1])


@given(WORDS, KEYS)
def test_occurrences_may_differ_from_row_to_row(seed, keys):
    occurrences = np.arange(len(keys), dtype=np.uint64)
    together = draw(seed, Purpose.VIEW, 0, keys, 3, occurrences)
    for row in range(len(keys)):
        assert np.array_equal(together[row], draw(seed, Purpose.VIEW, 0, keys[row : row + 1], 3, row)[0])


@given(st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70))
def test_seed_and_epoch_are_taken_modulo_2_to_the_64(seed, epoch):
    keys = np.array([5], dtype=np.uint64)
    expected = draw(seed % 2**64, Purpose.ORDER, epoch % 2**64, keys, 4)
    assert np.array_equal(draw(seed, Purpose.ORDER, epoch, keys, 4), expected)


def test_every_argument_changes_the_bits():
    keys = np.array([5], dtype=np.uint64)
    draws = [
        draw(1, Purpose.VIEW, 1, keys, 4),
        draw(2, Purpose.VIEW, 1, keys, 4),
        draw(1, Purpose.ORDER, 1, keys, 4),
        draw(1, Purpose.VIEW, 2, keys, 4),
        draw(1, Purpose.VIEW, 1, keys + np.uint64(1), 4),
        draw(1, Purpose.VIEW, 1, keys, 4, 1),
    ]
    words = np.concatenate(draws).ravel()
    assert len(np.unique(words)) == len(words)


def test_nothing_is_drawn_for_no_samples():
    assert draw(0, Purpose.VIEW, 0, np.empty(0, dtype=np.uint64), 3).shape == (0, 3)


@given(st.lists(WORDS, min_size=1, max_size=20))
def test_unit_is_the_upper_53_bits_below_one(words):
    numbers = unit(np.array(words, dtype=np.uint64))
    assert numbers.tolist() == [(word >> 11) / 2**53 for word in words]
    assert (numbers >= 0).all()
    assert (numbers < 1).all()


@given(st.lists(WORDS, min_size=1, max_size=20), st.integers(1, 2**31))
def test_below_is_within_its_bound_and_exact(words, bound):
    numbers = below(np.array(words, dtype=np.uint64), bound)
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [((word >> 32) * bound) >> 32 for word in words]
    assert numbers.min() >= 0
    assert numbers.max() < bound


def test_below_takes_a_bound_for_each_row():
    bits = np.full(3, 2**64 - 1, dtype=np.uint64)
    assert below(bits, np.array([1, 10, 2**31])).tolist() == [0, 9, 2**31 - 1]


@pytest.mark.parametrize("bound", [2, 7, 100])
def test_below_is_uniform(bound):
    rows = 20_000
    bits = draw(11, Purpose.VIEW, 0, np.arange(rows, dtype=np.uint64), 4).ravel()
    counts = np.bincount(below(bits, bound), minlength=bound)
    expected = len(bits) / bound
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # Mean bound - 1, standard deviation sqrt(2 (bound - 1)); the seed is fixed, so this never flickers.
    assert abs(chi_square - (bound - 1)) < 4 * np.sqrt(2 * (bound - 1))


def test_neighbouring_keys_are_uncorrelated():
    numbers = unit(draw(3, Purpose.VIEW, 0, np.arange(20_000, dtype=np.uint64), 2))
    for one, other in ((numbers[:-1, 0], numbers[1:, 0]), (numbers[:, 0], numbers[:, 1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(one))
    assert abs(numbers.mean() - 0.5) < 4 * np.sqrt(1 / 12 / numbers.size)
