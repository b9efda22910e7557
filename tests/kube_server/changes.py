"""What happened to objects, and how a watch tells it."""

import copy
from dataclasses import dataclass
from typing import Literal

from cluster.kube.client.kinds import Kind, Object
from tests.kube_server.selectors import Matches


@dataclass(frozen=True)
class Change:
    """One entry of what happened."""

    version: int
    kind: Kind
    body: Object | None
    """What it is after the change; None: it is gone."""
    before: Object | None
    """What it was before it; None: it was not there."""


EventType = Literal["ADDED", "MODIFIED", "DELETED"]


def event_of(change: Change, kind: Kind, namespace: str, matches: Matches) -> tuple[EventType, Object] | None:
    """A change as a watch of a selection sees it; None: not at all."""

    def is_in(body: Object | None) -> bool:
        return body is not None and namespace in ("", body["metadata"].get("namespace", "")) and matches(body)

    if change.kind != kind:
        return None
    was, there = is_in(change.before), is_in(change.body)
    if there and change.body is not None:
        return ("MODIFIED" if was else "ADDED", change.body)
    if was and change.before is not None:
        gone = copy.deepcopy(change.before)
        gone["metadata"]["resourceVersion"] = str(change.version)
        return "DELETED", gone
    return None
