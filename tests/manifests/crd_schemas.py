"""Objects of KubeRay and Kueue against the operators' own CustomResourceDefinitions, as an API server checks them.

The definitions are no part of this repository: they lie in a folder `schemas` beside it, one folder for each operator.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from tests.manifests.cel_rules import Judged

Object = dict[str, Any]

FOLDER = Path(__file__).parents[3] / "shared" / "schemas"
MISSING = f"the operators' definitions are not in {FOLDER}"

METADATA = frozenset({
    "annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers",
    "generateName", "generation", "labels", "managedFields", "name", "namespace", "ownerReferences",
    "resourceVersion", "selfLink", "uid",
})  # fmt: skip
"""Fields of an object's metadata; the definitions leave them to the API server."""
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
}  # fmt: skip
INTEGERS = {"int32": 2**31, "int64": 2**63}


def available() -> bool:
    """Whether the definitions are there."""
    return FOLDER.is_dir()


def defined(object_: Object) -> bool:
    """Whether an object is of a kind and version that the definitions serve."""
    return (str(object_.get("apiVersion")), str(object_.get("kind"))) in _files()


def problems_of(object_: Object, old: Object | None = None) -> list[str]:
    """What an API server would refuse in an object (unknown fields too), or in a change from `old` to it."""
    return judge(object_, old).problems


def judge(object_: Object, old: Object | None = None) -> Judged:
    """The same, with what could not be evaluated."""
    judged = Judged()
    if not defined(object_):
        kinds = ", ".join(sorted(f"{kind} {version}" for version, kind in _files()))
        judged.problems = [f"apiVersion and kind: {object_.get('kind')} {object_.get('apiVersion')} is none of {kinds}"]
        return judged
    metadata = object_.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        judged.problems.append("metadata.name: is required")
    else:
        judged.problems += [f"metadata.{each}: unknown field" for each in sorted(metadata.keys() - METADATA)]
    schema = schema_of(str(object_["apiVersion"]), str(object_["kind"]))
    _judge(judged, schema, defaulted(object_), None if old is None else defaulted(old), "")
    return judged


def defaulted(object_: Object) -> Object:
    """The object with the defaults of its definition, as an API server stores it; the argument stays as it is."""
    return _defaulted(schema_of(str(object_["apiVersion"]), str(object_["kind"])), object_)


@lru_cache(maxsize=32)
def schema_of(api_version: str, kind: str) -> Object:
    """The structural schema of a kind in a version; shared, not to be changed."""
    definition = _definition(_files()[api_version, kind])
    (version,) = [each for each in definition["spec"]["versions"] if each["name"] == api_version.rpartition("/")[2]]
    return version["schema"]["openAPIV3Schema"]


def is_namespaced(api_version: str, kind: str) -> bool:
    """Whether objects of a kind live in a namespace."""
    return _definition(_files()[api_version, kind])["spec"]["scope"] == "Namespaced"


@lru_cache(maxsize=1)
def _files() -> dict[tuple[str, str], Path]:
    """Which file defines which served (apiVersion, kind); read by the line, since parsing all takes seconds."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(FOLDER.glob("*/*.yaml")):
        text = path.read_text()
        (group,) = re.findall(r"^  group: (\S+)$", text, re.MULTILINE)
        (kind,) = re.findall(r"^    kind: (\S+)$", text, re.MULTILINE)
        versions = re.findall(r"^  (?:- |  )name: (v\d\w*)$", text, re.MULTILINE)
        found |= {(f"{group}/{version}", kind): path for version in versions}
    return found


@lru_cache(maxsize=32)
def _definition(path: Path) -> Object:
    return yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)


def _defaulted(schema: Object, value: Any) -> Any:
    if isinstance(value, dict):
        properties: Object = schema.get("properties") or {}
        others = schema.get("additionalProperties")
        full = {
            key: _defaulted(properties.get(key) or (others if isinstance(others, dict) else {}), each)
            for key, each in value.items()
            # A null where none may be is dropped for the default, or dropped altogether.
            if each is not None or properties.get(key, {}).get("nullable") or key not in properties
        }
        for key, inner in properties.items():
            if key not in full and "default" in inner:
                full[key] = _defaulted(inner, inner["default"])
        return full
    if isinstance(value, list):
        return [_defaulted(schema.get("items") or {}, each) for each in value]
    return value


def _judge(judged: Judged, schema: Object, value: Any, old: Any, path: str) -> None:
    """Judge one place in the object and all below it."""
    here = path or "the object"
    if value is None:
        if not schema.get("nullable"):
            judged.problems.append(f"{here}: must not be null")
        return
    wrong = _wrong_type(schema, value)
    if wrong:
        judged.problems.append(f"{here}: {wrong}")
        return
    judged.problems += [f"{here}: {each}" for each in _wrong_value(schema, value)]
    if isinstance(value, dict):
        for key, each in value.items():
            _judge_member(judged, schema, key, each, old.get(key) if isinstance(old, dict) else None, path)
    elif isinstance(value, list):
        before = _by_key(schema, old) if isinstance(old, list) else {}
        for at, each in enumerate(value):
            _judge(judged, schema.get("items") or {}, each, before.get(_key(schema, each)), f"{path}[{at}]")
    judged.judge(schema.get("x-kubernetes-validations") or [], here, value, old)


def _judge_member(judged: Judged, schema: Object, key: str, value: Any, old: Any, path: str) -> None:
    inside = f"{path}.{key}" if path else key
    properties: Object = schema.get("properties") or {}
    others = schema.get("additionalProperties")
    if key in properties:
        _judge(judged, properties[key], value, old, inside)
    elif isinstance(others, dict):
        _judge(judged, others, value, old, inside)
    elif properties and not others and not schema.get("x-kubernetes-preserve-unknown-fields"):
        known = ", ".join(sorted(properties))
        judged.problems.append(f"{inside}: unknown field; known are {known}")


def _wrong_type(schema: Object, value: Any) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        is_right = isinstance(value, (int, str)) and not isinstance(value, bool)
        return "" if is_right else f"{value!r} is neither an integer nor a string"
    kind = schema.get("type")
    if kind is None:
        return ""
    is_right = isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    return "" if is_right else f"{value!r} is not of type {kind}"


def _wrong_value(schema: Object, value: Any) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{value!r} is none of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str):
        yield from _wrong_string(schema, value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        limit = INTEGERS.get(schema.get("format", ""))
        if limit is not None and not -limit <= value < limit:
            yield f"{value} is no {schema['format']}"
        if value < schema.get("minimum", value):
            yield f"{value} is less than {schema['minimum']}"
    elif isinstance(value, dict):
        yield from (f"{key} is required" for key in schema.get("required") or () if key not in value)
        if len(value) > schema.get("maxProperties", len(value)):
            yield f"more than {schema['maxProperties']} entries"
    elif isinstance(value, list):
        yield from _wrong_list(schema, value)


def _wrong_string(schema: Object, value: str) -> Iterator[str]:
    if len(value) < schema.get("minLength", 0):
        yield f"{value!r} is shorter than {schema['minLength']}"
    if len(value) > schema.get("maxLength", len(value)):
        yield f"{value!r} is longer than {schema['maxLength']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{value!r} does not match {schema['pattern']}"
    if schema.get("format") == "date-time":
        try:
            datetime.fromisoformat(value)
        except ValueError:
            yield f"{value!r} is no time"


def _wrong_list(schema: Object, value: list[Any]) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"fewer than {schema['minItems']} entries"
    if len(value) > schema.get("maxItems", len(value)):
        yield f"more than {schema['maxItems']} entries"
    kind = schema.get("x-kubernetes-list-type")
    keys = [_key(schema, each) if kind == "map" else repr(each) for each in value if kind in ("map", "set")]
    yield from (f"{key} is there twice" for key in sorted({key for key in keys if keys.count(key) > 1}))


def _key(schema: Object, entry: Any) -> str:
    """What tells an entry of a list from the others; empty where a list has no such thing."""
    names = schema.get("x-kubernetes-list-map-keys") or ()
    return ", ".join(f"{name}={entry.get(name)}" for name in names) if isinstance(entry, dict) else ""


def _by_key(schema: Object, entries: list[Any]) -> Object:
    keyed = {_key(schema, each): each for each in entries}
    keyed.pop("", None)
    return keyed
