"""Answers that go on: watches and logs."""

import json
import time
from typing import TYPE_CHECKING

from cluster.kube.client.kinds import POD, Object
from tests.kube_server import refusals
from tests.kube_server.changes import event_of
from tests.kube_server.faults import Fault
from tests.kube_server.request import ApiRequest
from tests.kube_server.selectors import selector

if TYPE_CHECKING:
    from tests.kube_server.handler import Handler


class Disconnected(Exception):  # noqa: N818 - ordered
    """The connection is gone."""


def send_watch(handler: "Handler", request: ApiRequest, query: dict[str, str], fault: Fault | None) -> None:
    """Answer a watch, as kubectl keeps one while it waits."""
    store, kind = handler.kube.store, request.kind
    matches = selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
    ends = time.monotonic() + float(query.get("timeoutSeconds") or 1800)
    there: list[Object] = []
    with store.changed:
        version = int(query.get("resourceVersion") or 0)
        if not version:
            there, version = store.objects(kind, request.namespace, matches), store.version
        store.after(version)  # refused before the answer begins
    with Stream(handler, fault) as stream:
        for body in there:
            stream.line({"type": "ADDED", "object": body})
        while not handler.kube.stopping.is_set() and store is handler.kube.store and time.monotonic() < ends:
            with store.changed:
                if store.version == version:
                    store.changed.wait(0.05)
                changes = list(store.after(version))
            for change in changes:
                version = change.version
                event = event_of(change, kind, request.namespace, matches)
                if event is not None:
                    stream.line({"type": event[0], "object": event[1]})


def send_log(handler: "Handler", request: ApiRequest, query: dict[str, str], fault: Fault | None) -> None:
    """Answer with what a container has printed."""
    pod = handler.kube.store.get(POD, request.namespace, request.name)
    names = [each["name"] for each in pod["spec"]["containers"]]
    name = query.get("container") or (names[0] if len(names) == 1 else "")
    if name not in names:
        why = f"container {name} is not valid for pod {request.name}" if name else (
            f"a container name must be specified for pod {request.name}, choose one of: [{' '.join(names)}]"
        )  # fmt: skip
        raise refusals.bad_request(why)
    states = {each["name"]: each.get("state", {}) for each in pod.get("status", {}).get("containerStatuses", [])}
    if "waiting" in states.get(name, {"waiting": {}}):
        reason = states.get(name, {}).get("waiting", {}).get("reason", "ContainerCreating")
        raise refusals.bad_request(f'container "{name}" in pod "{request.name}" is waiting to start: {reason}')
    since = query.get("sinceTime", "")[:19]  # whole seconds, as the kubelet is request
    is_followed, is_timed = query.get("follow") == "true", query.get("timestamps") == "true"
    at, logs = 0, handler.kube.logs
    container = (request.namespace, request.name, name)
    with Stream(handler, fault, "text/plain") as stream:
        while not handler.kube.stopping.is_set() and logs is handler.kube.logs:
            lines, at, has_ended = logs.since(container, at, since)
            for stamp, line in lines:
                stream.text(f"{stamp} {line}\n" if is_timed else f"{line}\n")
            if not is_followed or has_ended:
                return
            with logs.changed:
                if len(logs.lines.get(container, [])) == at and container not in logs.ended:
                    logs.changed.wait(0.05)


class Stream:
    """An answer in chunks, of one line each."""

    def __init__(self, handler: "Handler", fault: Fault | None, content: str = "application/json") -> None:
        self._handler, self._fault, self._content, self._sent = handler, fault, content, 0

    def __enter__(self) -> "Stream":
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {self._content}\r\nTransfer-Encoding: chunked\r\n\r\n"
        self._handler.wfile.write(head.encode())
        self._trouble()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            if self._handler.kube.stopping.is_set():
                raise Disconnected
            self._handler.wfile.write(b"0\r\n\r\n")

    def line(self, event: Object) -> None:
        """One event."""
        self.text(json.dumps(event) + "\n")

    def text(self, text: str) -> None:
        """One line with its end."""
        raw = text.encode()
        if self._fault and self._fault.trouble == "cut line" and self._sent >= self._fault.after:
            self._chunk(raw[: len(raw) // 2])
            self._handler.reset()
        self._chunk(raw)
        self._sent += 1
        self._trouble()

    def _chunk(self, raw: bytes) -> None:
        self._handler.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")

    def _trouble(self) -> None:
        if self._fault is None or self._sent < self._fault.after:
            return
        if self._fault.trouble == "half-closed":
            self._handler.wait_for_leaving()
        if self._fault.trouble in ("cut", "lost", "short"):
            self._handler.reset()
