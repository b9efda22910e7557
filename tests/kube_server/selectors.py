"""Label and field selectors of lists and watches."""

import re
from collections.abc import Callable
from typing import Any

from cluster.kube.client.kinds import Object
from tests.kube_server.refusals import bad_request

Matches = Callable[[Object], bool]

_FIELDS = {
    "metadata.name", "metadata.namespace", "status.phase", "spec.nodeName", "type", "reason",
    "involvedObject.name", "involvedObject.kind", "involvedObject.uid", "involvedObject.namespace",
}  # fmt: skip


def selector(labels: str, fields: str) -> Matches:
    """Whether an object is asked for, by the query's labelSelector and fieldSelector."""
    tests = [_label_test(part) for part in _split(labels)] + [_field_test(part) for part in _split(fields)]
    return lambda body: all(test(body) for test in tests)


def _split(text: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _label_test(part: str) -> Matches:
    def labels(body: Object) -> dict[str, str]:
        return body["metadata"].get("labels") or {}

    if match := re.fullmatch(r"([^=!\s]+)\s*(==|=|!=)\s*([^=!\s]*)", part):
        key, sign, value = match.groups()
        if sign == "!=":
            return lambda body: labels(body).get(key) != value
        return lambda body: labels(body).get(key) == value
    if match := re.fullmatch(r"(\S+) (in|notin) \(([^)]*)\)", part):
        key, word, values = match[1], match[2], {each.strip() for each in match[3].split(",")}
        if word == "in":
            return lambda body: labels(body).get(key) in values
        return lambda body: labels(body).get(key) not in values
    if re.fullmatch(r"!?[A-Za-z0-9][-A-Za-z0-9_./]*", part):
        key = part.lstrip("!")
        return lambda body: (key in labels(body)) is not part.startswith("!")
    raise bad_request(f"unable to parse requirement: {part!r}")


def _field_test(part: str) -> Matches:
    match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
    if not match or match[1] not in _FIELDS:
        raise bad_request(f"field label not supported: {part}")
    path, is_same = match[1].split("."), match[2] != "!="

    def value(body: Object) -> Any:
        place: Any = body
        for key in path:
            place = (place or {}).get(key)
        return place or ""

    return lambda body: (value(body) == match[3]) is is_same
