"""A job's log arrives whole and once, wherever connections break: a real server that cuts them."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager

import ray
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cluster.jobs_api.client import RayJobsClient
from cluster.jobs_api.log import follow_log
from tests.laws import examples

Cut = tuple[int, bool]
"""After how many characters a connection ends, and whether as one does that has nothing more to say."""


@contextmanager
def serving(log: str, size: int, cuts: list[Cut]) -> Generator[str]:
    """A server whose job prints `log`, sent in chunks of `size`; the job ends when all cuts have been made."""
    left = list(cuts)

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"ray_version": ray.__version__})

    async def job(_: web.Request) -> web.Response:
        status = "RUNNING" if left else "SUCCEEDED"
        return web.json_response({"type": "SUBMISSION", "entrypoint": "python", "status": status})

    async def tail(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        until, politely = left[0] if left else (len(log), True)
        for start in range(0, min(until, len(log)), size):
            await socket.send_str(log[start : min(start + size, until)])
        if not politely and request.transport is not None:
            await asyncio.sleep(0)
            request.transport.abort()
        if left:
            left.pop(0)
        return socket

    loop, started, port = asyncio.new_event_loop(), threading.Event(), [0]

    async def serve() -> None:
        app = web.Application()
        app.add_routes([web.get("/api/version", version), web.get("/api/jobs/{id}", job)])
        app.add_routes([web.get("/api/jobs/{id}/logs/tail", tail)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port[0] = runner.addresses[0][1]
        started.set()
        await ended.wait()
        await runner.cleanup()

    ended = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert started.wait(10)
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@settings(max_examples=examples(0.12))
@given(
    st.text("ab\n é", max_size=60),
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 70), st.booleans()), max_size=2),
)
@example("one\ntwo\nno newline", 5, [(6, False), (9, True)])
def test_lines_are_neither_lost_nor_repeated(log: str, size: int, cuts: list[Cut]) -> None:
    whole = log.split("\n")
    with serving(log, size, cuts) as address:
        lines = list(follow_log(RayJobsClient(address, {"RAY_AUTH_MODE": "disabled"}, 5.0), "digits-1"))
    assert lines == (whole if whole[-1] else whole[:-1])
