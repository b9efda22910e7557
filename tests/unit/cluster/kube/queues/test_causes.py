"""Kueue's messages are shortened to their cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kube.queues.causes import cause_of

LACKS = (
    "couldn't assign flavors to pod set workers: insufficient unused quota for nvidia.com/gpu in flavor h100, 4 more "
    "needed, insufficient unused quota for memory in flavor cpu, 20Gi more needed"
)
NEVER = (
    "couldn't assign flavors to pod set workers: insufficient quota for nvidia.com/gpu in flavor h100, previously "
    "considered podsets requests (0) + current podset request (16) > maximum capacity (8)"
)
NEVER_IN_SHORT = "insufficient quota for memory in flavor cpu, request > maximum capacity (64Gi > 16Gi)"
PREEMPTED = "Preempted to accommodate a workload (UID: 6c8f, JobUID: 77) due to reclamation within the cohort; path: /a"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (LACKS, "4 GPUs more of h100 are needed"),
        (LACKS.partition("needed, ")[2], "20 GiB of memory more of cpu are needed"),
        (NEVER, "it will never start here: asks for 16 GPUs of h100, and there are 8"),
        (NEVER_IN_SHORT, "it will never start here: asks for 64 GiB of memory of cpu, and there are 16 GiB"),
        (PREEMPTED, "preempted: reclamation within the cohort; path: /a"),
        ("The workload\nis deactivated", "The workload is deactivated"),
        ("insufficient unused quota for x/y in flavor f, many more needed", "many x/y more of f are needed"),
    ],
)
def test_the_cause_is_named(message: str, cause: str) -> None:
    assert cause_of(message) == cause


@given(st.text(max_size=4000))
def test_it_is_one_short_line(message: str) -> None:
    cause = cause_of(message)
    assert "\n" not in cause
    assert len(cause) <= max(90, len(message) + 60)


def test_a_long_message_is_read_in_no_time() -> None:
    """Its beginning holds the first cause; what repeats half of a cause must not be searched again and again."""
    half = "insufficient quota for cpu in flavor a, previously considered podsets requests (1) + "
    assert len(cause_of(half * 10_000)) == 90
    assert cause_of(NEVER + half * 10_000) == "it will never start here: asks for 16 GPUs of h100, and there are 8"
