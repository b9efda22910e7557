"""The dispatcher in one event loop: no actor, no clock; whoever waits is let run until nothing more happens."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ray_jobs.job.config import JobConfig
from ray_jobs.search.dispatcher import MOST_LOST, Dispatcher, TrialEvent, TrialOrder

JOB = JobConfig()
Play = Callable[[Dispatcher], Coroutine[Any, Any, None]]


def on_a_dispatcher(play: Play) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await play(Dispatcher())

    asyncio.run(bounded())


async def settle() -> None:
    """Everything that can go on without us has done so: nothing here waits for anything but other tasks."""
    for _ in range(50):
        await asyncio.sleep(0)


async def submit(dispatcher: Dispatcher, *names: str) -> None:
    for name in names:
        await dispatcher.submit(TrialOrder(name, JOB))


async def taken(dispatcher: Dispatcher, slot: int, group: int, turn: int) -> str | None:
    order = await dispatcher.take(slot, group, turn)
    return None if order is None else order.digest


async def pending(*waiting: "asyncio.Future[Any]") -> bool:
    await settle()
    return not any(each.done() for each in waiting)


async def events_of(dispatcher: Dispatcher, digest: str, count: int) -> list[str]:
    return [(await dispatcher.next_event(digest)).kind for _ in range(count)]


def test_trials_are_handed_out_in_the_order_in_which_they_came():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a", "b", "c")
        assert [
            await taken(dispatcher, 0, 1, 0),
            await taken(dispatcher, 1, 1, 0),
            await taken(dispatcher, 0, 1, 1),
        ] == ["a", "b", "c"]
        fourth = asyncio.ensure_future(dispatcher.take(0, 1, 2))
        assert await pending(fourth)
        await submit(dispatcher, "d")
        assert await fourth == TrialOrder("d", JOB)

    on_a_dispatcher(play)


@pytest.mark.parametrize("first_comes_rank", [0, 1, 2])
def test_every_rank_has_the_same_trial_at_a_turn(first_comes_rank: int):
    async def play(dispatcher: Dispatcher) -> None:
        ranks = [asyncio.ensure_future(taken(dispatcher, 0, 1, 0)) for _ in range(3)]
        other = asyncio.ensure_future(taken(dispatcher, 1, 1, 0))
        assert await pending(*ranks, other)
        await submit(dispatcher, "a", "b")
        assert [await rank for rank in ranks] == ["a"] * 3
        assert await other == "b"
        await submit(dispatcher, "c", "d")
        turns = [await taken(dispatcher, 0, 1, 1 if rank == first_comes_rank else 0) for rank in range(3)]
        assert turns == ["c" if rank == first_comes_rank else "a" for rank in range(3)]
        await dispatcher.close()
        assert await taken(dispatcher, 0, 1, 1) == "c"
        assert await taken(dispatcher, 0, 1, 2) is None

    on_a_dispatcher(play)


def test_another_group_of_a_slot_begins_anew():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a", "b")
        assert await taken(dispatcher, 0, 1, 0) == "a"
        assert await taken(dispatcher, 0, 2, 0) == "b"

    on_a_dispatcher(play)


def test_a_trial_goes_on_after_the_epoch_that_the_search_has_seen():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a")
        await taken(dispatcher, 0, 1, 0)
        first = asyncio.ensure_future(dispatcher.epoch_done("a", {"epoch": 1.0, "val/top1": 0.5}, is_last=False))
        event = await dispatcher.next_event("a")
        assert (event.kind, event.epoch) == ("epoch", {"epoch": 1.0, "val/top1": 0.5})
        assert await pending(first)
        await dispatcher.go_on("a", 1.0)
        assert await first is True
        second = asyncio.ensure_future(dispatcher.epoch_done("a", {"epoch": 2.0}, is_last=False))
        await dispatcher.go_on("a", 1.0)
        assert await pending(second)
        await dispatcher.go_on("a", 2.0)
        assert await second is True

    on_a_dispatcher(play)


def test_to_ask_for_the_event_after_an_epoch_lets_the_trial_go_on():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a")
        await taken(dispatcher, 0, 1, 0)
        first = asyncio.ensure_future(dispatcher.epoch_done("a", {"epoch": 1.0}, is_last=False))
        assert (await dispatcher.next_event("a")).epoch == {"epoch": 1.0}
        asking = asyncio.ensure_future(dispatcher.next_event("a", 1.0))
        assert await first is True
        assert await pending(asking)
        second = asyncio.ensure_future(dispatcher.epoch_done("a", {"epoch": 2.0}, is_last=False))
        assert (await asking).epoch == {"epoch": 2.0}
        assert await pending(second)

    on_a_dispatcher(play)


def test_a_released_trial_ends_at_its_epoch_whatever_was_allowed():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a", "b")
        done = asyncio.ensure_future(dispatcher.epoch_done("a", {"epoch": 1.0}, is_last=False))
        assert await pending(done)
        await dispatcher.release("a", "scheduler")
        assert await done is False
        await dispatcher.go_on("b", 9.0)
        await dispatcher.release("b", "scheduler")
        assert await dispatcher.epoch_done("b", {"epoch": 3.0}, is_last=False) is False

    on_a_dispatcher(play)


def test_the_last_epoch_waits_for_nobody():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a")
        assert await dispatcher.epoch_done("a", {"epoch": 10.0}, is_last=True) is True
        await dispatcher.ended("a", TrialEvent("finished", results={"parameters": 7.0}))
        assert (await dispatcher.next_event("a")).epoch == {"epoch": 10.0}
        assert await dispatcher.next_event("a") == TrialEvent("finished", results={"parameters": 7.0})
        assert await dispatcher.results() == {"a": {"parameters": 7.0}}

    on_a_dispatcher(play)


def test_resumed_epochs_are_passed_on_in_their_order_before_new_ones():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a")
        await taken(dispatcher, 0, 1, 0)
        await dispatcher.resumed("a", [{"epoch": 1.0}, {"epoch": 2.0}])
        third = asyncio.ensure_future(dispatcher.epoch_done("a", {"epoch": 3.0}, is_last=False))
        await settle()
        assert [(await dispatcher.next_event("a")).epoch["epoch"] for _ in range(3)] == [1.0, 2.0, 3.0]
        await dispatcher.go_on("a", 2.0)
        assert await pending(third)
        await dispatcher.go_on("a", 3.0)
        assert await third is True

    on_a_dispatcher(play)


def test_who_asks_for_a_note_waits_for_it():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a", "b")
        event = asyncio.ensure_future(dispatcher.next_event("a"))
        await dispatcher.ended("b", TrialEvent("finished"))
        assert await pending(event)
        await dispatcher.ended("a", TrialEvent("diverged", error="nan"))
        assert await event == TrialEvent("diverged", error="nan")

    on_a_dispatcher(play)


def test_a_lost_group_is_told_to_its_unfinished_trial_only():
    async def play(dispatcher: Dispatcher) -> None:
        await dispatcher.open_slot(0)
        await dispatcher.open_slot(1)
        await submit(dispatcher, "over", "other", "lost", "queued")
        assert [await taken(dispatcher, 0, 1, 0), await taken(dispatcher, 1, 1, 0)] == ["over", "other"]
        await dispatcher.ended("over", TrialEvent("finished"))
        assert await taken(dispatcher, 0, 1, 1) == "lost"
        assert await dispatcher.lost(0, 1, TrialEvent("lost", error="node gone")) is True
        assert await dispatcher.next_event("lost") == TrialEvent("lost", error="node gone")
        assert await events_of(dispatcher, "over", 1) == ["finished"]
        waiting = [asyncio.ensure_future(dispatcher.next_event(name)) for name in ("over", "other", "lost", "queued")]
        assert await pending(*waiting)
        assert await taken(dispatcher, 0, 2, 0) == "queued"

    on_a_dispatcher(play)


def test_a_lost_trial_is_served_again_with_the_time_at_which_it_first_began():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a")
        await taken(dispatcher, 0, 1, 0)
        before = await dispatcher.times("a")
        await dispatcher.lost(0, 1, TrialEvent("lost"))
        await submit(dispatcher, "a")
        assert await taken(dispatcher, 1, 1, 0) == "a"
        after = await dispatcher.times("a")
        assert before is not None
        assert after is not None
        assert (before.slot, after.slot, after.ended) == (0, 1, None)
        assert (after.queued, after.started) == (before.queued, before.started)
        assert await dispatcher.times("never came") is None

    on_a_dispatcher(play)


def test_an_epoch_that_is_trained_again_waits_for_nobody():
    """The search has said already that the trial goes on after it, and will not say so again."""

    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a")
        await taken(dispatcher, 0, 1, 0)
        await dispatcher.go_on("a", 2.0)
        await dispatcher.lost(0, 1, TrialEvent("lost"))
        await submit(dispatcher, "a")
        assert await taken(dispatcher, 0, 2, 0) == "a"
        assert await dispatcher.epoch_done("a", {"epoch": 2.0}, is_last=False) is True
        third = asyncio.ensure_future(dispatcher.epoch_done("a", {"epoch": 3.0}, is_last=False))
        assert await pending(third)

    on_a_dispatcher(play)


def test_a_lost_group_takes_no_trial_though_one_of_its_calls_still_waits():
    async def play(dispatcher: Dispatcher) -> None:
        await dispatcher.open_slot(0)
        dead = asyncio.ensure_future(dispatcher.take(0, 1, 0))
        assert await pending(dead)
        assert await dispatcher.lost(0, 1, TrialEvent("lost")) is True
        assert await dead is None
        await submit(dispatcher, "a")
        assert await dispatcher.take(0, 1, 1) is None
        assert await taken(dispatcher, 0, 2, 0) == "a"

    on_a_dispatcher(play)


@pytest.mark.parametrize("turns_before_the_loss", range(8))
def test_a_group_may_be_lost_while_another_one_takes(turns_before_the_loss: int):
    """Whatever runs between: two groups wait for the dispatcher's lock when a third one's loss is told."""

    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a")
        await taken(dispatcher, 0, 1, 0)
        others = [asyncio.ensure_future(taken(dispatcher, slot, 1, 0)) for slot in (1, 2, 3)]
        await settle()
        more = asyncio.ensure_future(submit(dispatcher, "b", "c", "d"))
        for _ in range(turns_before_the_loss):
            await asyncio.sleep(0)
        assert await dispatcher.lost(0, 1, TrialEvent("lost")) is True
        await more
        assert sorted(filter(None, [await other for other in others])) == ["b", "c", "d"]
        assert await events_of(dispatcher, "a", 1) == ["lost"]

    on_a_dispatcher(play)


def test_a_slot_is_given_up_after_three_groups_that_never_served_and_no_trial_fails_for_it():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a")
        waiting = asyncio.ensure_future(dispatcher.next_event("a"))
        for slot in (0, 1):
            for goes_on in [True] * (MOST_LOST - 1) + [False]:
                group = await dispatcher.open_slot(slot)
                assert await dispatcher.lost(slot, group, TrialEvent("lost", error="no DALI")) is goes_on
        assert await pending(waiting)
        await dispatcher.close()
        assert await waiting == TrialEvent("closed")

    on_a_dispatcher(play)


def test_groups_are_numbered_by_slot():
    async def play(dispatcher: Dispatcher) -> None:
        assert [await dispatcher.open_slot(slot) for slot in (0, 1, 0, 0, 1)] == [1, 1, 2, 3, 2]

    on_a_dispatcher(play)


def test_a_supervisors_death_is_told_to_its_newest_groups_trial():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a", "b")
        for slot, name in ((0, "a"), (1, "b")):
            assert await taken(dispatcher, slot, await dispatcher.open_slot(slot), 0) == name
        assert await dispatcher.abandoned(0, TrialEvent("lost", error="killed")) is True
        assert await dispatcher.next_event("a") == TrialEvent("lost", error="killed")
        other = asyncio.ensure_future(dispatcher.next_event("b"))
        assert await pending(other)
        await submit(dispatcher, "a")
        assert await dispatcher.take(0, 1, 1) is None  # its workers may outlive it by a moment
        assert await taken(dispatcher, 0, await dispatcher.open_slot(0), 0) == "a"

    on_a_dispatcher(play)


def test_supervisors_that_never_open_their_slot_are_given_up_though_one_before_them_served():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a")
        assert await taken(dispatcher, 0, await dispatcher.open_slot(0), 0) == "a"
        goes_on = [await dispatcher.abandoned(0, TrialEvent("lost")) for _ in range(MOST_LOST + 1)]
        assert goes_on == [True] * MOST_LOST + [False]
        assert await events_of(dispatcher, "a", 1) == ["lost"]

    on_a_dispatcher(play)


def test_a_group_that_served_makes_good_for_those_that_did_not():
    async def play(dispatcher: Dispatcher) -> None:
        await dispatcher.open_slot(0)
        for group in range(1, 10):
            if group % MOST_LOST == 0:
                await submit(dispatcher, f"trial {group}")
                await taken(dispatcher, 0, group, 0)
            assert await dispatcher.lost(0, group, TrialEvent("lost")) is True

    on_a_dispatcher(play)


def test_closing_wakes_everybody():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a", "b")
        await taken(dispatcher, 0, 1, 0)
        await taken(dispatcher, 1, 1, 0)
        taking = [asyncio.ensure_future(dispatcher.take(slot, 1, 1)) for slot in (0, 1)]
        deciding = asyncio.ensure_future(dispatcher.epoch_done("a", {"epoch": 1.0}, is_last=False))
        hearing = asyncio.ensure_future(dispatcher.next_event("b"))
        assert await pending(*taking, deciding, hearing)
        await dispatcher.close()
        assert [await each for each in taking] == [None, None]
        assert await deciding is False
        assert (await hearing).kind == "closed"
        assert await events_of(dispatcher, "a", 3) == ["epoch", "closed", "closed"]
        await submit(dispatcher, "c")
        assert await dispatcher.take(0, 1, 2) is None
        assert await dispatcher.lost(0, 1, TrialEvent("lost")) in (True, False)
        assert [await dispatcher.lost(1, group, TrialEvent("lost")) for group in (2, 3)] == [False, False]

    on_a_dispatcher(play)


def test_the_dispatcher_says_what_ended_a_trial():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a", "b", "c")
        await dispatcher.release("a", "scheduler")
        await dispatcher.release("b", None)
        assert [await dispatcher.ended_by(name) for name in "abc"] == ["scheduler", None, None]
        await dispatcher.close("hours")
        await dispatcher.close()
        assert [await dispatcher.ended_by(name) for name in "abc"] == ["scheduler", None, "hours"]

    on_a_dispatcher(play)


def test_a_queued_trial_that_is_released_is_not_handed_out():
    async def play(dispatcher: Dispatcher) -> None:
        await submit(dispatcher, "a", "b")
        await dispatcher.release("a", "scheduler")
        await dispatcher.release("never came", "scheduler")
        assert await taken(dispatcher, 0, 1, 0) == "b"
        waiting = asyncio.ensure_future(dispatcher.take(0, 1, 1))
        assert await pending(waiting)
        await submit(dispatcher, "a")
        assert (await waiting) == TrialOrder("a", JOB)

    on_a_dispatcher(play)


def test_a_slots_start_is_that_of_its_first_group():
    async def play(dispatcher: Dispatcher) -> None:
        assert await dispatcher.startup_s() == []
        await dispatcher.open_slot(0)
        await dispatcher.open_slot(1)
        await submit(dispatcher, "a")
        await taken(dispatcher, 0, 1, 0)
        (before,) = await dispatcher.startup_s()
        await dispatcher.lost(0, 1, TrialEvent("lost"))
        await dispatcher.open_slot(0)
        assert await dispatcher.startup_s() == [before]
        assert before >= 0.0

    on_a_dispatcher(play)
