"""Parts of Kubernetes objects, which leave out what is empty."""

from typing import Any, cast

from cluster.kube.client.kinds import Object


def part(body: Object, *keys: str) -> Object:
    """The object inside an object at a path; empty where there is none."""
    for key in keys:
        inside: Any = body.get(key)
        body = cast("Object", inside) if isinstance(inside, dict) else {}
    return body


def entries(body: Object, *keys: str) -> list[Object]:
    """The objects in the list at a path; empty where there is none."""
    found: Any = part(body, *keys[:-1]).get(keys[-1])
    return [each for each in cast("list[Any]", found) if isinstance(each, dict)] if isinstance(found, list) else []


def name_of(body: Object) -> str:
    """An object's name; empty where it has none."""
    return str(part(body, "metadata").get("name", ""))
