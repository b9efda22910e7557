"""Records of trials that are over, and a wait for those that are not: equal parameters are trained once."""

import asyncio

from ray_jobs.search.records import TrialRecord


class KnownTrials:
    """An actor: one for a search."""

    def __init__(self, records: list[TrialRecord]) -> None:
        self._over = {record.digest: record for record in records if record.is_over}
        self._training: set[str] = set()
        self._changed = asyncio.Condition()

    async def get(self, digest: str) -> TrialRecord | None:
        """The record of equal parameters, once they are no longer being trained; None: the asker trains them."""
        async with self._changed:
            await self._changed.wait_for(lambda: digest not in self._training)
            if digest not in self._over:
                self._training.add(digest)
            return self._over.get(digest)

    async def over(self, record: TrialRecord) -> None:
        """A trial is over, or, when its record says that it is to be gone on with, nobody trains it now."""
        async with self._changed:
            self._training.discard(record.digest)
            if record.is_over:
                self._over[record.digest] = record
            self._changed.notify_all()
