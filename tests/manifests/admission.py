"""A ValidatingAdmissionPolicy with its binding, evaluated as an API server does: which requests it is asked about, and
what it refuses."""

from dataclasses import dataclass
from typing import Any

import celpy
from celpy.celtypes import MapType

from tests.manifests.cel_rules import compiled

Object = dict[str, Any]

PLURALS = {"RayJob": "rayjobs", "RayCluster": "rayclusters", "RayService": "rayservices", "Pod": "pods"}


@dataclass(frozen=True)
class Admission:
    """A policy, and what binds it to namespaces."""

    policy: Object
    binding: Object

    def concerns(self, object_: Object, namespace: Object, old: Object | None = None, subresource: str = "") -> bool:
        """Whether the policy is asked about a request at all."""
        labels = namespace["metadata"].get("labels", {})
        return (
            _selects(self.binding["spec"]["matchResources"]["namespaceSelector"], labels)
            and any(
                _matches(rule, object_, old, subresource)
                for rule in self.policy["spec"]["matchConstraints"]["resourceRules"]
            )
            and all(
                _holds(each["expression"], _known(object_, namespace, old))
                for each in self.policy["spec"].get("matchConditions", [])
            )
        )

    def refusals(
        self, object_: Object, namespace: Object, old: Object | None = None, *, only: str | None = None
    ) -> list[str]:
        """The names of all rules that a request breaks, or whether it breaks the one that is named.

        None where the policy is not asked. A rule whose evaluation fails is broken, too (failurePolicy Fail).
        """
        assert self.policy["spec"]["failurePolicy"] == "Fail"
        assert self.binding["spec"]["validationActions"] == ["Deny"]
        assert self.binding["spec"]["policyName"] == self.policy["metadata"]["name"]
        if not self.concerns(object_, namespace, old):
            return []
        known = _known(object_, namespace, old)
        known["variables"] = variables = MapType()
        for each in self.policy["spec"]["variables"]:
            try:
                variables[each["name"]] = compiled(each["expression"]).evaluate(known)
            except celpy.CELEvalError:
                continue  # the rules that use it fail then
        rules = self.rules()
        return [name for name in rules if only in {None, name} and not _holds(rules[name], known)]

    def rules(self) -> dict[str, str]:
        """The expression of each rule by its name, with which its message begins."""
        return {each["message"].partition(":")[0]: each["expression"] for each in self.policy["spec"]["validations"]}


def _holds(expression: str, known: Object) -> bool:
    try:
        return bool(compiled(expression).evaluate(known))
    except celpy.CELEvalError:
        return False


def _known(object_: Object, namespace: Object, old: Object | None) -> Object:
    return {
        "object": celpy.json_to_cel(object_),
        "oldObject": celpy.json_to_cel(old),
        "request": celpy.json_to_cel({"operation": "CREATE" if old is None else "UPDATE"}),
        "namespaceObject": celpy.json_to_cel(namespace),
    }


def _matches(rule: Object, object_: Object, old: Object | None, subresource: str) -> bool:
    group, _, version = object_["apiVersion"].rpartition("/")
    resource = PLURALS[object_["kind"]] + (f"/{subresource}" if subresource else "")
    asked = {
        "apiGroups": group,
        "apiVersions": version,
        "operations": "CREATE" if old is None else "UPDATE",
        "resources": resource,
    }
    # "*" among resources would not be subresources; none of ours says so.
    return all({value, "*"} & set(rule[key]) for key, value in asked.items())


def _selects(selector: Object, labels: Object) -> bool:
    """Of a selector's operators the one that is used here."""
    assert selector.keys() == {"matchExpressions"}
    assert all(each["operator"] == "Exists" for each in selector["matchExpressions"])
    return all(each["key"] in labels for each in selector["matchExpressions"])
