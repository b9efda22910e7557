"""The desk in one event loop: no actor, no clock; whoever waits is let run until nothing more happens."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ray_jobs.job.config import JobConfig
from ray_jobs.search.dispatcher import MOST_LOST, Desk, Note, Order

JOB = JobConfig()
Play = Callable[[Desk], Coroutine[Any, Any, None]]


def on_a_desk(play: Play) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await play(Desk())

    asyncio.run(bounded())


async def settle() -> None:
    """Everything that can go on without us has done so: nothing here waits for anything but other tasks."""
    for _ in range(50):
        await asyncio.sleep(0)


async def submit(desk: Desk, *names: str) -> None:
    for name in names:
        await desk.submit(Order(name, JOB))


async def taken(desk: Desk, slot: int, group: int, turn: int) -> str | None:
    order = await desk.take(slot, group, turn)
    return None if order is None else order.digest


async def pending(*waiting: "asyncio.Future[Any]") -> bool:
    await settle()
    return not any(each.done() for each in waiting)


async def notes_of(desk: Desk, digest: str, count: int) -> list[str]:
    return [(await desk.next_note(digest)).kind for _ in range(count)]


def test_trials_are_handed_out_in_the_order_in_which_they_came():
    async def play(desk: Desk) -> None:
        await submit(desk, "a", "b", "c")
        assert [await taken(desk, 0, 1, 0), await taken(desk, 1, 1, 0), await taken(desk, 0, 1, 1)] == ["a", "b", "c"]
        fourth = asyncio.ensure_future(desk.take(0, 1, 2))
        assert await pending(fourth)
        await submit(desk, "d")
        assert await fourth == Order("d", JOB)

    on_a_desk(play)


@pytest.mark.parametrize("first_comes_rank", [0, 1, 2])
def test_every_rank_has_the_same_trial_at_a_turn(first_comes_rank: int):
    async def play(desk: Desk) -> None:
        ranks = [asyncio.ensure_future(taken(desk, 0, 1, 0)) for _ in range(3)]
        other = asyncio.ensure_future(taken(desk, 1, 1, 0))
        assert await pending(*ranks, other)
        await submit(desk, "a", "b")
        assert [await rank for rank in ranks] == ["a"] * 3
        assert await other == "b"
        await submit(desk, "c", "d")
        turns = [await taken(desk, 0, 1, 1 if rank == first_comes_rank else 0) for rank in range(3)]
        assert turns == ["c" if rank == first_comes_rank else "a" for rank in range(3)]
        await desk.close()
        assert await taken(desk, 0, 1, 1) == "c"
        assert await taken(desk, 0, 1, 2) is None

    on_a_desk(play)


def test_another_group_of_a_slot_begins_anew():
    async def play(desk: Desk) -> None:
        await submit(desk, "a", "b")
        assert await taken(desk, 0, 1, 0) == "a"
        assert await taken(desk, 0, 2, 0) == "b"

    on_a_desk(play)


def test_a_trial_goes_on_after_the_epoch_that_the_search_has_seen():
    async def play(desk: Desk) -> None:
        await submit(desk, "a")
        await taken(desk, 0, 1, 0)
        first = asyncio.ensure_future(desk.epoch_done("a", {"epoch": 1.0, "val/top1": 0.5}, is_last=False))
        note = await desk.next_note("a")
        assert (note.kind, note.epoch) == ("epoch", {"epoch": 1.0, "val/top1": 0.5})
        assert await pending(first)
        await desk.go_on("a", 1.0)
        assert await first is True
        second = asyncio.ensure_future(desk.epoch_done("a", {"epoch": 2.0}, is_last=False))
        await desk.go_on("a", 1.0)
        assert await pending(second)
        await desk.go_on("a", 2.0)
        assert await second is True

    on_a_desk(play)


def test_a_released_trial_ends_at_its_epoch_whatever_was_allowed():
    async def play(desk: Desk) -> None:
        await submit(desk, "a", "b")
        done = asyncio.ensure_future(desk.epoch_done("a", {"epoch": 1.0}, is_last=False))
        assert await pending(done)
        await desk.release("a", "scheduler")
        assert await done is False
        await desk.go_on("b", 9.0)
        await desk.release("b", "scheduler")
        assert await desk.epoch_done("b", {"epoch": 3.0}, is_last=False) is False

    on_a_desk(play)


def test_the_last_epoch_waits_for_nobody():
    async def play(desk: Desk) -> None:
        await submit(desk, "a")
        assert await desk.epoch_done("a", {"epoch": 10.0}, is_last=True) is True
        await desk.ended("a", Note("finished", results={"parameters": 7.0}))
        assert (await desk.next_note("a")).epoch == {"epoch": 10.0}
        assert await desk.next_note("a") == Note("finished", results={"parameters": 7.0})
        assert await desk.results() == {"a": {"parameters": 7.0}}

    on_a_desk(play)


def test_resumed_epochs_are_passed_on_in_their_order_before_new_ones():
    async def play(desk: Desk) -> None:
        await submit(desk, "a")
        await taken(desk, 0, 1, 0)
        await desk.resumed("a", [{"epoch": 1.0}, {"epoch": 2.0}])
        third = asyncio.ensure_future(desk.epoch_done("a", {"epoch": 3.0}, is_last=False))
        await settle()
        assert [(await desk.next_note("a")).epoch["epoch"] for _ in range(3)] == [1.0, 2.0, 3.0]
        await desk.go_on("a", 2.0)
        assert await pending(third)
        await desk.go_on("a", 3.0)
        assert await third is True

    on_a_desk(play)


def test_who_asks_for_a_note_waits_for_it():
    async def play(desk: Desk) -> None:
        await submit(desk, "a", "b")
        note = asyncio.ensure_future(desk.next_note("a"))
        await desk.ended("b", Note("finished"))
        assert await pending(note)
        await desk.ended("a", Note("diverged", error="nan"))
        assert await note == Note("diverged", error="nan")

    on_a_desk(play)


def test_a_lost_group_is_told_to_its_unfinished_trial_only():
    async def play(desk: Desk) -> None:
        await desk.open_slot(0)
        await desk.open_slot(1)
        await submit(desk, "over", "other", "lost", "queued")
        assert [await taken(desk, 0, 1, 0), await taken(desk, 1, 1, 0)] == ["over", "other"]
        await desk.ended("over", Note("finished"))
        assert await taken(desk, 0, 1, 1) == "lost"
        assert await desk.lost(0, 1, Note("lost", error="node gone")) is True
        assert await desk.next_note("lost") == Note("lost", error="node gone")
        assert await notes_of(desk, "over", 1) == ["finished"]
        waiting = [asyncio.ensure_future(desk.next_note(name)) for name in ("over", "other", "lost", "queued")]
        assert await pending(*waiting)
        assert await taken(desk, 0, 2, 0) == "queued"

    on_a_desk(play)


def test_a_lost_trial_is_served_again_with_the_time_at_which_it_first_began():
    async def play(desk: Desk) -> None:
        await submit(desk, "a")
        await taken(desk, 0, 1, 0)
        before = await desk.times("a")
        await desk.lost(0, 1, Note("lost"))
        await submit(desk, "a")
        assert await taken(desk, 1, 1, 0) == "a"
        after = await desk.times("a")
        assert before is not None
        assert after is not None
        assert (before.slot, after.slot, after.ended) == (0, 1, None)
        assert (after.queued, after.started) == (before.queued, before.started)
        assert await desk.times("never came") is None

    on_a_desk(play)


def test_an_epoch_that_is_trained_again_waits_for_nobody():
    """The search has said already that the trial goes on after it, and will not say so again."""

    async def play(desk: Desk) -> None:
        await submit(desk, "a")
        await taken(desk, 0, 1, 0)
        await desk.go_on("a", 2.0)
        await desk.lost(0, 1, Note("lost"))
        await submit(desk, "a")
        assert await taken(desk, 0, 2, 0) == "a"
        assert await desk.epoch_done("a", {"epoch": 2.0}, is_last=False) is True
        third = asyncio.ensure_future(desk.epoch_done("a", {"epoch": 3.0}, is_last=False))
        assert await pending(third)

    on_a_desk(play)


def test_a_lost_group_takes_no_trial_though_one_of_its_calls_still_waits():
    async def play(desk: Desk) -> None:
        await desk.open_slot(0)
        dead = asyncio.ensure_future(desk.take(0, 1, 0))
        assert await pending(dead)
        assert await desk.lost(0, 1, Note("lost")) is True
        assert await dead is None
        await submit(desk, "a")
        assert await desk.take(0, 1, 1) is None
        assert await taken(desk, 0, 2, 0) == "a"

    on_a_desk(play)


@pytest.mark.parametrize("turns_before_the_loss", range(8))
def test_a_group_may_be_lost_while_another_one_takes(turns_before_the_loss: int):
    """Whatever runs between: two groups wait for the desk's lock when a third one's loss is told."""

    async def play(desk: Desk) -> None:
        await submit(desk, "a")
        await taken(desk, 0, 1, 0)
        others = [asyncio.ensure_future(taken(desk, slot, 1, 0)) for slot in (1, 2, 3)]
        await settle()
        more = asyncio.ensure_future(submit(desk, "b", "c", "d"))
        for _ in range(turns_before_the_loss):
            await asyncio.sleep(0)
        assert await desk.lost(0, 1, Note("lost")) is True
        await more
        assert sorted(filter(None, [await other for other in others])) == ["b", "c", "d"]
        assert await notes_of(desk, "a", 1) == ["lost"]

    on_a_desk(play)


def test_a_slot_is_given_up_after_three_groups_that_never_served_and_no_trial_fails_for_it():
    async def play(desk: Desk) -> None:
        await submit(desk, "a")
        waiting = asyncio.ensure_future(desk.next_note("a"))
        for slot in (0, 1):
            for goes_on in [True] * (MOST_LOST - 1) + [False]:
                group = await desk.open_slot(slot)
                assert await desk.lost(slot, group, Note("lost", error="no DALI")) is goes_on
        assert await pending(waiting)
        await desk.close()
        assert await waiting == Note("closed")

    on_a_desk(play)


def test_groups_are_numbered_by_slot():
    async def play(desk: Desk) -> None:
        assert [await desk.open_slot(slot) for slot in (0, 1, 0, 0, 1)] == [1, 1, 2, 3, 2]

    on_a_desk(play)


def test_a_supervisors_death_is_told_to_its_newest_groups_trial():
    async def play(desk: Desk) -> None:
        await submit(desk, "a", "b")
        for slot, name in ((0, "a"), (1, "b")):
            assert await taken(desk, slot, await desk.open_slot(slot), 0) == name
        assert await desk.abandoned(0, Note("lost", error="killed")) is True
        assert await desk.next_note("a") == Note("lost", error="killed")
        other = asyncio.ensure_future(desk.next_note("b"))
        assert await pending(other)
        await submit(desk, "a")
        assert await desk.take(0, 1, 1) is None  # its workers may outlive it by a moment
        assert await taken(desk, 0, await desk.open_slot(0), 0) == "a"

    on_a_desk(play)


def test_supervisors_that_never_open_their_slot_are_given_up_though_one_before_them_served():
    async def play(desk: Desk) -> None:
        await submit(desk, "a")
        assert await taken(desk, 0, await desk.open_slot(0), 0) == "a"
        goes_on = [await desk.abandoned(0, Note("lost")) for _ in range(MOST_LOST + 1)]
        assert goes_on == [True] * MOST_LOST + [False]
        assert await notes_of(desk, "a", 1) == ["lost"]

    on_a_desk(play)


def test_a_group_that_served_makes_good_for_those_that_did_not():
    async def play(desk: Desk) -> None:
        await desk.open_slot(0)
        for group in range(1, 10):
            if group % MOST_LOST == 0:
                await submit(desk, f"trial {group}")
                await taken(desk, 0, group, 0)
            assert await desk.lost(0, group, Note("lost")) is True

    on_a_desk(play)


def test_closing_wakes_everybody():
    async def play(desk: Desk) -> None:
        await submit(desk, "a", "b")
        await taken(desk, 0, 1, 0)
        await taken(desk, 1, 1, 0)
        taking = [asyncio.ensure_future(desk.take(slot, 1, 1)) for slot in (0, 1)]
        deciding = asyncio.ensure_future(desk.epoch_done("a", {"epoch": 1.0}, is_last=False))
        hearing = asyncio.ensure_future(desk.next_note("b"))
        assert await pending(*taking, deciding, hearing)
        await desk.close()
        assert [await each for each in taking] == [None, None]
        assert await deciding is False
        assert (await hearing).kind == "closed"
        assert await notes_of(desk, "a", 3) == ["epoch", "closed", "closed"]
        await submit(desk, "c")
        assert await desk.take(0, 1, 2) is None
        assert await desk.lost(0, 1, Note("lost")) in (True, False)
        assert [await desk.lost(1, group, Note("lost")) for group in (2, 3)] == [False, False]

    on_a_desk(play)


def test_the_desk_says_what_ended_a_trial():
    async def play(desk: Desk) -> None:
        await submit(desk, "a", "b", "c")
        await desk.release("a", "scheduler")
        await desk.release("b", None)
        assert [await desk.ended_by(name) for name in "abc"] == ["scheduler", None, None]
        await desk.close("hours")
        await desk.close()
        assert [await desk.ended_by(name) for name in "abc"] == ["scheduler", None, "hours"]

    on_a_desk(play)


def test_a_queued_trial_that_is_released_is_not_handed_out():
    async def play(desk: Desk) -> None:
        await submit(desk, "a", "b")
        await desk.release("a", "scheduler")
        await desk.release("never came", "scheduler")
        assert await taken(desk, 0, 1, 0) == "b"
        waiting = asyncio.ensure_future(desk.take(0, 1, 1))
        assert await pending(waiting)
        await submit(desk, "a")
        assert (await waiting) == Order("a", JOB)

    on_a_desk(play)


def test_a_slots_start_is_that_of_its_first_group():
    async def play(desk: Desk) -> None:
        assert await desk.startup_s() == []
        await desk.open_slot(0)
        await desk.open_slot(1)
        await submit(desk, "a")
        await taken(desk, 0, 1, 0)
        (before,) = await desk.startup_s()
        await desk.lost(0, 1, Note("lost"))
        await desk.open_slot(0)
        assert await desk.startup_s() == [before]
        assert before >= 0.0

    on_a_desk(play)
