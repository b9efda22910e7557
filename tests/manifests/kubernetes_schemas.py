"""Objects of Kubernetes' own kinds against its schemas, in which unknown fields are errors; and pods in custom
resources, which the operators' definitions copy from one Kubernetes version and without some of its rules."""

import json
import re
from functools import lru_cache
from importlib.resources import files
from typing import Any

import jsonschema
from referencing import Registry, Resource

from tests.manifests.pods import pod_templates

Object = dict[str, Any]

VERSION = "1.34"
"""Of Kubernetes: the oldest that KubeRay 1.7 and Kueue 0.19 are commonly run on."""


def problems_of(object_: Object) -> list[str]:
    """What an API server would refuse in an object of Kubernetes' own, or in the pods of a custom one."""
    name = _schema_name(object_)
    if _file(name) is not None:
        return _problems(name, object_)
    problems: list[str] = []
    for path, template in pod_templates(object_):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": template.get("metadata", {}), "spec": template["spec"]}
        problems += [f"{path}.{each}" for each in _problems("pod-v1", pod)]
    return problems


def known(object_: Object) -> bool:
    """Whether the object is of one of Kubernetes' own kinds."""
    return _file(_schema_name(object_)) is not None


def _schema_name(object_: Object) -> str:
    version = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", str(object_.get("apiVersion")))
    return f"{str(object_.get('kind')).lower()}-{version}"


def _problems(name: str, object_: Object) -> list[str]:
    found = sorted(_validator(name).iter_errors(object_), key=lambda error: error.json_path)
    return [f"{error.json_path.removeprefix('$.')}: {error.message}" for error in found]


def _folder() -> Any:
    folder = files("kubernetes_validate") / "kubernetes-json-schema"
    (found,) = [each for each in folder.iterdir() if re.fullmatch(rf"v{VERSION}\.\d+-local-strict", each.name)]
    return found


@lru_cache(maxsize=64)
def _file(name: str) -> Object | None:
    file = _folder() / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else None


@lru_cache(maxsize=1)
def _registry() -> Registry[Any]:
    return Resource.from_contents(json.loads((_folder() / "_definitions.json").read_text())) @ Registry()


@lru_cache(maxsize=64)
def _validator(name: str) -> jsonschema.Draft202012Validator:
    schema = _file(name)
    return jsonschema.Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _registry())
