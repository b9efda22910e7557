"""The smallest network within a loss is found by as few prunings as a bisection needs."""

from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.compression.outcome import Try
from ray_jobs.compression.smallest import next_share

_SHARES = st.floats(0.0, 1.0)


def searched(reachable: float, sufficient: float, most: int) -> list[Try]:
    """Where shares from `reachable` on can be reached, and those from `sufficient` on lose little enough."""
    tries = list[Try]()
    while (share := next_share(tries, most)) is not None:
        is_trained = share >= reachable
        tries.append(Try(share, "a run" if is_trained else "", "", is_trained and share >= sufficient))
    return tries


@given(_SHARES, _SHARES, st.integers(1, 8))
def test_a_bisection_ends_at_the_boundary_as_near_as_its_prunings_allow(reachable: float, sufficient: float, most: int):
    tries = searched(reachable, sufficient, most)
    trained = [each for each in tries if each.run]
    assert len(trained) <= most
    assert len({each.share for each in tries}) == len(tries)
    failed = max((each.share for each in tries if not each.is_small_enough), default=0.05)
    held = min((each.share for each in tries if each.is_small_enough), default=1.0)
    boundary = min(1.0, max(0.05, reachable, sufficient))
    assert failed <= boundary <= held
    assert held - failed <= 0.95 / 2 ** (most - 1) + 0.002


def test_shares_out_of_reach_take_no_prunings_away():
    assert [(each.share, bool(each.run)) for each in searched(0.4, 0.0, 2)] == [
        (0.5, True),
        (0.275, False),
        (0.388, False),
        (0.444, True),
    ]
