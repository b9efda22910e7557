"""An actor that has equal parameters trained once: it answers with the record, or waits until there is one."""

import asyncio

from ray_jobs.search.records import TrialRecord


class KnownTrials:
    """The records of trials that are over, and who trains the others. One for a search."""

    def __init__(self, records: list[TrialRecord]) -> None:
        self._over = {record.digest: record for record in records if record.is_over}
        self._trained_by: dict[str, str] = {}
        self._changed = asyncio.Condition()

    async def get(self, digest: str, asker: str) -> TrialRecord | None:
        """The record of equal parameters, once they are no longer being trained; None: the asker trains them.

        `asker` is the name that Ray Tune gave it: two of its trials may have equal parameters.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: digest not in self._trained_by)
            if digest not in self._over:
                self._trained_by[digest] = asker
            return self._over.get(digest)

    async def lives(self) -> None:
        """Answers, which is a sign of life."""

    async def is_trained_by(self, digest: str, asker: str) -> bool:
        """Whether the asker trains these parameters. If nobody did, it does from now on, and others wait."""
        async with self._changed:
            return self._trained_by.setdefault(digest, asker) == asker

    async def over(self, record: TrialRecord) -> None:
        """A trial is over; or its record is unfinished, and nobody trains it now."""
        async with self._changed:
            self._trained_by.pop(record.digest, None)
            if record.is_over:
                self._over[record.digest] = record
            self._changed.notify_all()
