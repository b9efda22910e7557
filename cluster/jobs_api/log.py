"""The log of a job on a running Ray, line by line, through connections that break."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from typing import cast

from aiohttp import ClientError
from ray.job_submission import JobSubmissionClient

_SILENCE_S = 60.0
"""A connection that is silent for this long is made again: one that a router has dropped looks the same."""
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0


class _BrokenError(Exception):
    """A connection ended before the log did."""


def follow_log(client: JobSubmissionClient, identifier: str) -> Iterator[str]:
    """The lines of a job's log, from the first one until the job has ended and all is read.

    Ray sends the log from its beginning on every connection and only ever appends to it, so that what an earlier
    connection has given is told from what is new by counting characters. It cannot send what is not UTF-8: lines from
    there on are missing. Raises what the client raises.
    """
    given, rest, pause, ended = 0, "", _FIRST_PAUSE_S, False
    while True:
        place, whole = 0, False
        try:
            for chunk in _connection(client, identifier):
                place += len(chunk)
                if place > given:
                    rest += chunk[given - place :]
                    given, pause = place, _FIRST_PAUSE_S
                    *lines, rest = rest.split("\n")
                    yield from lines
            whole = True
        except _BrokenError:
            pass
        if whole and ended:
            break
        # A connection that failed between Ray's own servers looks whole, too: one must begin after the job has ended.
        ended = client.get_job_info(identifier).status.is_terminal()
        if not (whole and ended):
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    if rest:
        yield rest


def _connection(client: JobSubmissionClient, identifier: str) -> Iterator[str]:
    """What one connection gives. Raises _BrokenError where it breaks or falls silent."""
    with asyncio.Runner() as runner:
        chunks = cast("AsyncGenerator[str]", client.tail_job_logs(identifier))
        try:
            while (chunk := runner.run(_next(chunks))) is not None:
                yield chunk
        finally:
            runner.run(chunks.aclose())


async def _next(chunks: AsyncGenerator[str]) -> str | None:
    try:
        return await asyncio.wait_for(anext(chunks, None), _SILENCE_S)
    except (ClientError, RuntimeError, OSError) as error:
        raise _BrokenError from error
