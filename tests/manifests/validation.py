"""All that is checked of an object: schemas, rules between fields, policy."""

from typing import Any

from tests.manifests import crd_schemas, cross_field, kubernetes_schemas, policy

UNCHECKED = {"PodMonitor": "the Prometheus operator's definitions are not at hand"}
"""Kinds whose schema is not at hand, and why; all else of an unknown kind is a problem."""


def problems_of(object_: dict[str, Any]) -> list[str]:
    """Everything wrong with an object, each beginning with where. Needs the operators' definitions."""
    kind = str(object_.get("kind"))
    problems = kubernetes_schemas.problems_of(object_)
    if crd_schemas.defined(object_):
        problems += crd_schemas.problems_of(object_)
    elif not kubernetes_schemas.known(object_) and kind not in UNCHECKED:
        problems.append(f"kind: nothing is known of {kind} in {object_.get('apiVersion')}")
    return problems + cross_field.problems_of(object_) + policy.problems_of(object_)
