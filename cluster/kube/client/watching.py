"""A watch that goes on for ever, whatever happens to streams and servers: no object lost, none invented."""

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cluster.kube.client.connection import Connection, Request
from cluster.kube.client.kinds import Object
from cluster.kube.client.outage import BrokenError, RefusedError
from cluster.kube.client.refusal import status_in

Listed = tuple[list[Object], str]
"""Objects, and the version of that list."""


class Watch:
    """What is known of a selection of objects, and how it goes on."""

    def __init__(self, connection: Connection, selection: Request, listed: Callable[[], Listed]) -> None:
        """`selection`: the request that lists it; `listed`: its objects now, through outages."""
        self._connection = connection
        self._selection = selection
        self._listed = listed
        self._known: dict[str, Object] = {}
        """By uid: an object that was deleted and made again is another one."""
        self._version = ""
        """Of the last change that is known; empty: all is to be listed."""
        self._listed_at = 0.0

    def events(self) -> Generator[Object | None]:
        """The objects there are, then one for each change; None when nothing has changed for some seconds.

        What is gone comes with `metadata.deletionTimestamp` set. Between a broken stream and the next list an object's
        states in between may go unseen, never its last one. Raises RefusedError and TargetUnreachableError.
        """
        outage = self._connection.outage()
        while True:
            is_news = False
            try:
                # A server that was restored from an older copy may send nothing for long, and no error.
                if not self._version or time.monotonic() > self._listed_at + self._connection.patience.relist_s:
                    news = self._relist()
                    yield from news or [None]
                with self._stream() as stream:
                    outage.answered()
                    for line in stream:
                        event = self._seen(line)
                        if event is not None:
                            is_news = True
                            yield event
                outage = self._connection.outage()
                if not is_news:
                    yield None
            except (RefusedError, BrokenError) as error:
                self._version = ""  # the server may be back with another state
                if is_news:
                    outage = self._connection.outage()
                if isinstance(error, RefusedError) and error.status.is_expired:
                    outage.pause()
                else:
                    outage.wait(error)

    def _relist(self) -> list[Object]:
        found, version = self._listed()
        known, now = self._known, {_uid(body): body for body in found}
        gone = [_gone(body) for uid, body in known.items() if uid not in now]
        new = [body for uid, body in now.items() if uid not in known or _version(known[uid]) != _version(body)]
        self._known, self._version, self._listed_at = now, version, time.monotonic()
        return gone + new

    def _stream(self) -> AbstractContextManager[Iterator[bytes]]:
        patience = self._connection.patience
        query = {
            **self._selection.query,
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(round(patience.watch_s), 1)),
        }
        silence_s = patience.watch_s + patience.grace_s
        return self._connection.stream(replace(self._selection, query=query), silence_s)

    def _seen(self, line: bytes) -> Object | None:
        try:
            event: Any = json.loads(line)
            kind, body = str(event["type"]), event["object"]
            if kind == "ERROR":
                raise RefusedError(status_in(body))
            version = _version(body)
            uid = "" if kind == "BOOKMARK" else _uid(body)
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenError(f"the watch of {self._selection.path} sends what is no event") from error
        self._version = version
        if kind == "BOOKMARK":
            return None
        if kind == "DELETED":
            return _gone(body) if self._known.pop(uid, None) else None
        if uid in self._known and _version(self._known[uid]) == version:
            return None
        self._known[uid] = body
        return body


def _uid(body: Object) -> str:
    return str(body["metadata"]["uid"])


def _version(body: Object) -> str:
    return str(body["metadata"]["resourceVersion"])


def _gone(body: Object) -> Object:
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**body, "metadata": {"deletionTimestamp": when, **body["metadata"]}}
