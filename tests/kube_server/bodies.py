"""Whether a body is an object of its kind: KubeRay's and Kueue's by their own definitions."""

import re
from collections.abc import Iterator
from typing import Any

from cluster.kube.client.kinds import Kind, Object
from tests.kube_server.refusals import bad_request, invalid
from tests.manifests import crd_schemas, kubernetes_schemas

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")


def with_defaults(body: Object) -> Object:
    """The body as it is stored, with the defaults of its definition."""
    return crd_schemas.defaulted(body) if crd_schemas.available() and crd_schemas.defined(body) else body


def refuse_wrong(kind: Kind, body: Object, old: Object | None, *, strict: bool) -> None:
    """Raise what an API server answers to a body that is none of its kind.

    Unknown fields are refused where the client asks for fieldValidation=Strict, and passed over elsewhere.
    """
    metadata = body.get("metadata") or {}
    name = str(metadata.get("name", ""))
    problems = [f"metadata.{each}" for each in _wrong_metadata(metadata)]
    if crd_schemas.available() and crd_schemas.defined(body):
        found = crd_schemas.problems_of(body, old)
    elif "/" not in kind.api_version:
        found = list(_wrong_core(body))
    else:
        found = []
    unknown = [each for each in found if "unknown field" in each]
    if unknown and strict:
        fields = ", ".join(f'unknown field "{each.partition(":")[0]}"' for each in unknown)
        raise bad_request(
            f"{kind.name} in version {kind.api_version!r} cannot be handled: strict decoding error: {fields}"
        )
    problems += [each for each in found if each not in unknown]
    if problems:
        raise invalid(kind, name, problems)


def _wrong_metadata(metadata: dict[str, Any]) -> list[str]:
    problems: list[str] = []
    name = metadata.get("name", "")
    if not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        problems.append(f'name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case '
                        "alphanumeric characters, '-' or '.'")  # fmt: skip
    for key, value in (metadata.get("labels") or {}).items():
        if not isinstance(value, str) or len(value) > 63 or not _LABEL.fullmatch(value):
            problems.append(f'labels: Invalid value: "{value}": {key}: a valid label must be at most 63 characters')
    if any(not isinstance(value, str) for value in (metadata.get("annotations") or {}).values()):
        problems.append("annotations: Invalid value: annotations are text")
    return problems


def _wrong_core(body: Object) -> Iterator[str]:
    for problem in kubernetes_schemas.problems_of(body):
        path, _, message = problem.partition(": ")
        unknown = re.search(r"\('(.*)' was unexpected\)", message)
        yield f"{path}.{unknown[1]}".lstrip("$.") + ": unknown field" if unknown else problem
