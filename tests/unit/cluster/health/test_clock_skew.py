import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.health.clock_skew import Exchange, Skew, check_clock, estimate_skew

SECONDS = st.floats(0.0, 30.0)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[float, list[Exchange]]:
    """A true lead of the other clock, and messages whose ways there and back take what they take."""
    lead, now = draw(st.floats(-1e6, 1e6)), 1.8e9
    found: list[Exchange] = []
    for there, back, pause in draw(st.lists(st.tuples(SECONDS, SECONDS, SECONDS), min_size=1, max_size=9)):
        found.append(Exchange(now, now + there + lead, now + there + back))
        now += there + back + pause
    return lead, found


@given(exchanges())
def test_the_true_skew_is_within_the_uncertainty_whatever_the_way_takes(given_: tuple[float, list[Exchange]]) -> None:
    lead, messages = given_
    found = estimate_skew(messages)
    assert abs(found.offset_s - lead) <= found.uncertainty_s + 1e-5
    assert found.uncertainty_s <= min(each.received - each.sent for each in messages) / 2 + 1e-5
    assert found.least_s <= abs(lead) + 1e-5


@given(exchanges(), exchanges())
def test_more_messages_never_make_it_less_certain(
    one: tuple[float, list[Exchange]], more: tuple[float, list[Exchange]]
) -> None:
    assert estimate_skew(one[1] + more[1]).uncertainty_s <= estimate_skew(one[1]).uncertainty_s


def test_no_message_tells_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        estimate_skew([])


@pytest.mark.parametrize(
    ("offset", "uncertainty", "status"),
    [
        (0.0, 0.001, "ok"),
        (-0.9, 0.0, "ok"),
        (1.4, 0.5, "ok"),  # the way there and back may explain it
        (-1.6, 0.5, "warning"),
        (299.0, 0.0, "warning"),
        (-3600.0, 0.1, "error"),
    ],
)
def test_a_clock_is_blamed_for_what_is_certain(offset: float, uncertainty: float, status: str) -> None:
    check = check_clock(Skew(offset, uncertainty))
    assert check.status == status
    assert (check.remedy != "") == (status != "ok")
    assert f"{offset:+.3f} s" in check.found
