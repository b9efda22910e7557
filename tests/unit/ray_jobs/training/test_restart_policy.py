"""How often failed workers are restarted: decided by records alone, without a Ray."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RayDiedError, RayNotStartedError, ResourceError, RunHeldError, StorageError
from data_pipeline.errors import DataError
from ray_jobs.errors import CERTAIN, JobFailedError
from ray_jobs.training.restart_policy import (
    Decision,
    Failure,
    Limits,
    NoWholeCheckpointError,
    Past,
    Raise,
    Restart,
    Retry,
    Shrink,
    StartOver,
    Wait,
    after_death,
    decide,
)
from resnet_dist.errors import DivergedError, RunError
from resnet_dist.training.out_of_memory import MicrobatchTooLargeError

LIMITS = Limits(max_failures=2, wait_for_room_s=60.0, global_batch_size=48, workers="2 workers with {'CPU': 1} each")
KILLED = OSError("the worker died\nand more")


def failed(*causes: BaseException) -> Failure:
    return Failure(causes, no_room=False, began_s=10.0, ended_s=20.0)


def no_room(began_s: float, ended_s: float) -> Failure:
    return Failure([KILLED], no_room=True, began_s=began_s, ended_s=ended_s)


def unread() -> int:
    raise AssertionError("storage was asked, which may be what failed")


def test_a_killed_worker_is_started_again_from_the_newest_checkpoint() -> None:
    assert decide(failed(KILLED), Past(3), LIMITS, lambda: 7) == Retry(Past(7, failures=1), step=7)


def test_too_many_failures_in_a_row_end_the_job_with_the_last_one() -> None:
    past = Past(7)
    for failures in (1, 2):
        decision = decide(failed(KILLED), past, LIMITS, lambda: 7)
        assert decision == Retry(Past(7, failures), step=7)
        past = decision.past
    decision = decide(failed(KILLED), past, LIMITS, lambda: 7)
    assert isinstance(decision, Raise)
    assert isinstance(decision.error, JobFailedError)
    for part in ("3 times", "cluster.max_failures=2", "OSError: the worker died"):
        assert part in str(decision.error)


@pytest.mark.parametrize("limit", [0, 1])
def test_max_failures_is_the_number_of_restarts(limit: int) -> None:
    limits = replace(LIMITS, max_failures=limit)
    decisions = [decide(failed(KILLED), Past(0, failures), limits, lambda: 0) for failures in range(limit + 1)]
    assert [type(each) for each in decisions] == [Retry] * limit + [Raise]


@pytest.mark.parametrize(
    "error", [RunError("r"), RunHeldError("h"), DataError("d"), StorageError("s"), DivergedError()]
)
def test_what_another_attempt_would_meet_again_is_raised_and_storage_is_not_asked(error: Exception) -> None:
    assert isinstance(error, CERTAIN)
    assert decide(failed(KILLED, error), Past(3), LIMITS, unread) == Raise(error)


def test_memory_that_ran_out_shrinks_the_microbatch_and_is_no_failure() -> None:
    cause = MicrobatchTooLargeError(16)
    # The other ranks fail with it, by whatever their collective makes of it.
    decision = decide(failed(KILLED, RunError("a collective failed"), cause), Past(3, 2, 5.0), LIMITS, unread)
    assert decision == Shrink(Past(3, 2), 8, cause)
    last = decide(failed(MicrobatchTooLargeError(2)), Past(3), LIMITS, unread)
    assert isinstance(last, Raise)
    assert isinstance(last.error, RunError)
    assert "no smaller even divisor" in str(last.error)


def test_without_a_whole_checkpoint_it_starts_over() -> None:
    assert decide(failed(KILLED, NoWholeCheckpointError("none")), Past(3, 1), LIMITS, unread) == StartOver(Past(3, 1))


def test_taken_places_are_waited_for_and_the_wait_is_one_in_a_row() -> None:
    first = decide(no_room(100.0, 130.0), Past(3, 2), LIMITS, unread)
    assert first == Wait(Past(3, 2, full_since_s=100.0), left_s=30.0)
    assert decide(no_room(140.0, 150.0), first.past, LIMITS, unread) == Wait(first.past, left_s=10.0)
    decision = decide(no_room(150.0, 160.0), first.past, LIMITS, unread)
    assert isinstance(decision, Raise)
    assert isinstance(decision.error, ResourceError)
    for part in (LIMITS.workers, "cluster.wait_for_nodes_s=60", "wait for longer"):
        assert part in str(decision.error)
    # Workers that did start in between have ended the wait.
    between = decide(failed(KILLED), first.past, LIMITS, lambda: 9)
    assert between == Retry(Past(9, 1), 9)
    assert decide(no_room(200.0, 210.0), between.past, LIMITS, unread) == Wait(Past(9, 1, 200.0), left_s=50.0)


def test_a_newest_checkpoint_that_was_lost_does_not_count_as_progress_when_it_is_made_again() -> None:
    lost = decide(failed(KILLED), Past(10, 1), LIMITS, lambda: 5)
    assert lost == Retry(Past(10, 2), step=5)
    assert isinstance(decide(failed(KILLED), lost.past, LIMITS, lambda: 10), Raise)


RAYLET, GCS = RayDiedError("Ray has died: its raylet"), RayDiedError("Ray has died: its GCS")


def test_a_ray_that_died_is_started_again_after_longer_and_longer_pauses_and_then_no_more() -> None:
    past, pauses = Past(5, failures=2, full_since_s=1.0), list[float]()
    for step in (7, 8, 9):
        decision = after_death(RAYLET, past, 3, f"step {step}")
        assert isinstance(decision, Restart)
        assert (decision.past.failures, decision.past.full_since_s) == (2, None)
        past = decision.past
        pauses.append(decision.pause_s)
    assert pauses == [1.0, 2.0, 4.0]
    last = after_death(RAYLET, past, 3, "step 10")
    assert isinstance(last, Raise)
    assert isinstance(last.error, JobFailedError)
    for part in ("its raylet", "3 times", "cluster.max_restarts=3", "the same command resumes"):
        assert part in str(last.error)


def test_a_ray_that_does_not_come_up_is_tried_as_often_as_may_be() -> None:
    past, slow = Past(0), RayNotStartedError("Ray did not start: timed out")
    for _ in range(3):
        decision = after_death(slow, past, 3, "step 0")
        assert isinstance(decision, Restart)
        past = decision.past
    assert isinstance(after_death(slow, past, 3, "step 0"), Raise)


def test_the_same_death_at_the_same_step_twice_is_final() -> None:
    first = after_death(RAYLET, Past(0), 9, "step 7")
    assert isinstance(first, Restart)
    other = after_death(GCS, first.past, 9, "step 7")
    assert isinstance(other, Restart)
    assert isinstance(after_death(GCS, other.past, 9, "step 8"), Restart)
    again = after_death(GCS, other.past, 9, "step 7")
    assert isinstance(again, Raise)
    assert str(again.error).startswith("Ray has died: its GCS, twice at step 7;")


@given(st.integers(0, 1000), st.lists(st.tuples(st.sampled_from([RAYLET, GCS]), st.integers(0, 5)), max_size=50))
def test_restarts_of_ray_end(most: int, deaths: Sequence[tuple[RayDiedError, int]]) -> None:
    past, before = Past(0), None
    for number, (death, step) in enumerate(deaths):
        decision = after_death(death, past, most, f"step {step}")
        if isinstance(decision, Raise):
            assert number == most or before == (death, step)
            return
        assert number < most
        assert 1.0 <= decision.pause_s <= 30.0
        past, before = decision.past, (death, step)


def test_a_worker_s_failure_forgets_no_restart() -> None:
    first = after_death(RAYLET, Past(0), 3, "step 7")
    assert isinstance(first, Restart)
    retry = decide(failed(KILLED), first.past, LIMITS, lambda: 9)
    assert isinstance(retry, Retry)
    assert (retry.past.restarts, retry.past.reached) == (1, 9)


KINDS = st.sampled_from(["killed", "out of memory"])


@given(
    events=st.lists(st.tuples(KINDS, st.integers(0, 30)), max_size=200),
    most=st.integers(0, 3),
)
def test_restarts_end_whatever_workers_and_storage_do(events: Sequence[tuple[str, int]], most: int) -> None:
    """Between two checkpoints beyond all before there are at most `max_failures` retries; microbatches only shrink."""
    limits, past, size = replace(LIMITS, max_failures=most), Past(0), 48
    retries, beyond = 0, 0
    for kind, step in events:
        cause = KILLED if kind == "killed" else MicrobatchTooLargeError(size)
        decision: Decision = decide(failed(cause), past, limits, lambda step=step: step)
        match decision:
            case Raise(error):
                assert isinstance(error, JobFailedError if kind == "killed" else RunError)
                if kind == "killed":
                    assert step <= beyond or most == 0
                    assert retries == most
                return
            case Shrink():
                assert decision.microbatch_size < size
                size = decision.microbatch_size
            case Retry():
                retries = 1 if step > beyond else retries + 1
                beyond = max(beyond, step)
                assert retries <= most
                assert decision.step == step
            case _:
                raise AssertionError(decision)
        past = decision.past
