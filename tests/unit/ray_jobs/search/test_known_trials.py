import asyncio
from collections.abc import Callable
from dataclasses import replace

from ray_jobs.search.known_trials import KnownTrials
from ray_jobs.search.records import TrialRecord

Make = Callable[..., TrialRecord]


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_what_is_over_is_answered_at_once_and_what_is_not_is_to_be_trained(make_trial: Make):
    over, begun = make_trial(0, 0.5), make_trial(1, 0.4, state="running")

    async def play() -> None:
        known = KnownTrials([over, begun])
        assert await known.get(over.digest, "someone") is over
        assert await known.get(over.digest, "someone") is over
        assert await known.get(begun.digest, "someone") is None
        assert await known.get("unheard of", "someone") is None

    asyncio.run(asyncio.wait_for(play(), 30))


def test_equal_parameters_wait_and_then_have_the_record(make_trial: Make):
    over = make_trial(0, 0.5, state="failed")

    async def play() -> None:
        known = KnownTrials([])
        assert await known.get(over.digest, "someone") is None
        same = [asyncio.ensure_future(known.get(over.digest, "someone")) for _ in range(3)]
        assert await known.get("another", "someone") is None
        await known.over(replace(make_trial(9, 0.1), params={}))
        await settle()
        assert not any(each.done() for each in same)
        await known.over(over)
        assert [await each for each in same] == [over] * 3
        assert await known.get(over.digest, "someone") is over

    asyncio.run(asyncio.wait_for(play(), 30))


def test_an_unfinished_end_lets_the_next_one_train_and_only_one(make_trial: Make):
    begun = make_trial(0, 0.5, state="running")

    async def play() -> None:
        known = KnownTrials([])
        assert await known.get(begun.digest, "someone") is None
        same = [asyncio.ensure_future(known.get(begun.digest, "someone")) for _ in range(3)]
        for ended in range(3):
            await settle()
            assert sum(each.done() for each in same) == ended
            await known.over(begun)
        assert [await each for each in same] == [None] * 3

    asyncio.run(asyncio.wait_for(play(), 30))


def test_only_who_trains_them_may_say_how_parameters_ended(make_trial: Make):
    over = make_trial(0, 0.5)

    async def play() -> None:
        known = KnownTrials([])
        assert await known.get(over.digest, "trains") is None
        same = asyncio.ensure_future(known.get(over.digest, "waits"))
        await settle()
        assert not await known.is_trained_by(over.digest, "waits")
        assert await known.is_trained_by(over.digest, "trains")
        await known.over(over)
        assert await same == over

    asyncio.run(asyncio.wait_for(play(), 30))


def test_who_asks_while_nobody_trains_them_keeps_others_from_it(make_trial: Make):
    failed = make_trial(0, 0.5, state="failed")

    async def play() -> None:
        known = KnownTrials([])
        assert await known.is_trained_by(failed.digest, "died early")
        same = asyncio.ensure_future(known.get(failed.digest, "another"))
        await settle()
        assert not same.done()
        await known.over(failed)
        assert await same == failed

    asyncio.run(asyncio.wait_for(play(), 30))
