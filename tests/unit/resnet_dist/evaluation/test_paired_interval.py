import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from resnet_dist.evaluation.paired_interval import Changes
from resnet_dist.export.parity import int8_verdict


def test_the_interval_is_bonett_and_prices():
    """Worked out by hand: 100 pairs, 5 lost and 2 won."""
    first, second = np.ones(100, dtype=bool), np.ones(100, dtype=bool)
    second[:5], first[5:7] = False, False
    assert Changes.between(first, second).interval() == pytest.approx((-0.02795, 0.08677), abs=2e-5)


@given(hnp.arrays(bool, 60), hnp.arrays(bool, 60))
def test_the_interval_turns_with_its_sides_and_holds_the_difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_]
):
    low, high = Changes.between(first, second).interval()
    assert Changes.between(second, first).interval() == pytest.approx((-high, -low))
    assert low <= (first.sum() - second.sum()) / 62 <= high


@st.composite
def changes(draw: st.DrawFn) -> Changes:
    samples = draw(st.integers(1, 5000))
    lost = draw(st.integers(0, samples))
    return Changes(lost, draw(st.integers(0, samples - lost)), samples)


@given(changes(), st.floats(0, 0.1))
def test_an_int8_format_is_refused_only_where_all_of_the_interval_is(seen: Changes, most: float):
    verdict, reason = int8_verdict(seen, most)
    low, high = seen.interval()
    if verdict == "refused":
        assert low > most
    elif verdict == "passed":
        assert high <= most
    else:
        assert low <= most < high
        assert "to tell" in reason


@given(changes(), st.floats(0.001, 0.1))
def test_as_many_images_as_are_said_to_be_missing_tell(seen: Changes, most: float):
    needed = seen.samples_to_tell(most)
    if needed is not None:
        low, high = seen.interval(needed)
        assert low > most or high <= most
        if needed > seen.samples:
            low, high = seen.interval(needed - 1)
            assert low <= most < high


def test_without_a_changed_answer_553_images_pass_half_a_point():
    verdict, reason = int8_verdict(Changes(0, 0, 269), 0.005)
    assert verdict == "inconclusive"
    assert "val has 269 images, and it takes some 553 like these to tell (284 more)" in reason
    assert int8_verdict(Changes(0, 0, 553), 0.005)[0] == "passed"
    assert int8_verdict(Changes(0, 0, 552), 0.005)[0] == "inconclusive"
