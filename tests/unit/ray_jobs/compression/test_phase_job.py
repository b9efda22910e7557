"""Epochs of a recovery are spread over its rounds."""

from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.compression.phase_job import epochs_of_rounds


@given(st.integers(1, 500), st.integers(1, 10))
def test_every_round_recovers_and_the_last_one_longest(epochs: int, rounds: int):
    found = epochs_of_rounds(epochs, rounds)
    assert len(found) == rounds
    assert min(found) >= 1
    assert found[-1] == max(found)
    assert sum(found) == max(epochs, rounds)


def test_the_last_round_has_half_of_them():
    assert epochs_of_rounds(20, 3) == [5, 5, 10]
    assert epochs_of_rounds(10, 1) == [10]
    assert epochs_of_rounds(3, 2) == [1, 2]
