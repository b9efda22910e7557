"""How a write changes an object: merge patches (RFC 7386), and server-side apply with the owners of fields."""

import copy
from collections.abc import Iterator
from typing import Any

from cluster.kube.client.kinds import Object

Path = tuple[str, ...]
Owner = tuple[str, str]
"""A manager, and how it writes: "Apply" or "Update". What it has set in one way is another's in the other."""
Owners = dict[Path, set[Owner]]
"""Who has set a field."""

_UNOWNED = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"), ("metadata", "uid")}


def merge_patched(value: Any, patch: Any) -> Any:
    """The value after a JSON merge patch."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(value) if isinstance(value, dict) else {}
    for key, each in patch.items():
        if each is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patched(merged.get(key), each)
    return merged


def fields_of(body: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each field and its value; a list is one value."""
    if isinstance(body, dict) and body:
        for key, each in body.items():
            yield from fields_of(each, (*path, key))
    elif path not in _UNOWNED:
        yield path, body


def owners_after(before: Object, after: Object, owners: Owners, owner: Owner) -> Owners:
    """Who owns what after a write that is no apply: the writer owns what it has changed."""
    old = dict(fields_of(before))
    return {
        path: owners.get(path, set()) if path in old and old[path] == value else {owner}
        for path, value in fields_of(after)
    }


def conflicts_of(live: Object, applied: Object, owners: Owners, owner: Owner) -> list[tuple[Path, str]]:
    """Fields that are to be another value than another manager has set, with that manager."""
    now = dict(fields_of(live))
    return [
        (path, ", ".join(sorted(name for name, _ in owners[path] - {owner})))
        for path, value in fields_of(applied)
        if path in now and now[path] != value and owners.get(path, set()) - {owner}
    ]


def applied_to(live: Object, applied: Object, owners: Owners, owner: Owner) -> tuple[Object, Owners]:
    """The object after an apply, and the owners of its fields; a field that its only owner leaves out goes away."""
    result, left = copy.deepcopy(live), {path: set(who) for path, who in owners.items()}
    now, wanted = dict(fields_of(live)), dict(fields_of(applied))
    for path in [path for path, who in left.items() if owner in who and path not in wanted]:
        left[path].discard(owner)
        if not left[path]:
            del left[path]
            _remove(result, path)
    for path, value in wanted.items():
        _put(result, path, copy.deepcopy(value))
        left[path] = left.get(path, set()) | {owner} if now.get(path) == value else {owner}
    return result, left


def _put(body: Object, path: Path, value: Any) -> None:
    for key in path[:-1]:
        if not isinstance(body.get(key), dict):
            body[key] = {}
        body = body[key]
    body[path[-1]] = value


def _remove(body: Object, path: Path) -> None:
    if len(path) > 1:
        inner = body.get(path[0])
        if isinstance(inner, dict):
            _remove(inner, path[1:])
            if not inner:
                del body[path[0]]
    else:
        body.pop(path[0], None)
