"""The check by the operators' definitions finds what is wrong, names its place, and leaves right objects alone."""

import copy
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pytest
import yaml
from celpy import base_functions
from hypothesis import given
from hypothesis import strategies as st

from tests.manifests import crd_schemas
from tests.manifests.cel_rules import Judged, compiled
from tests.manifests.crd_schemas import defaulted, defined, judge, problems_of, schema_of
from tests.manifests.places import K8S, VERBS, needs_definitions, read

Place = tuple[str | int, ...]

pytestmark = needs_definitions

FLAVOR: dict[str, Any] = {
    "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor", "metadata": {"name": "gpu"},
    "spec": {"nodeLabels": {"gpu": "a"}, "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]},
}  # fmt: skip
QUEUE: dict[str, Any] = {
    "apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": "team"},
    "spec": {
        "cohortName": "all",
        "resourceGroups": [{
            "coveredResources": ["cpu"],
            "flavors": [{"name": "gpu", "resources": [{"name": "cpu", "nominalQuota": 8, "borrowingLimit": 4}]}],
        }],
    },
}  # fmt: skip


@lru_cache(maxsize=1)
def ray_jobs() -> list[dict[str, Any]]:
    return [each for verb in VERBS for each in read(K8S / "jobs" / f"{verb}.yaml") if defined(each)]


def places(tree: Any, schema: dict[str, Any], at: Place = ()) -> Iterator[tuple[Place, Any, dict[str, Any]]]:
    """Every place in an object with its value and schema."""
    yield at, tree, schema
    if isinstance(tree, dict):
        properties = schema.get("properties") or {}
        for key, value in tree.items():
            others = schema.get("additionalProperties")
            yield from places(value, properties.get(key) or (others if isinstance(others, dict) else {}), (*at, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from places(value, schema.get("items") or {}, (*at, index))


def written(place: Place) -> str:
    return "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in place).removeprefix(".")


def changed(tree: Any, place: Place, value: Any) -> Any:
    tree = copy.deepcopy(tree)
    if not place:
        return value
    inner = tree
    for each in place[:-1]:
        inner = inner[each]
    inner[place[-1]] = value
    return tree


def all_places() -> list[tuple[dict[str, Any], Place, Any, dict[str, Any]]]:
    schema = schema_of("ray.io/v1", "RayJob")
    return [(job, *found) for job in ray_jobs() for found in places(job, schema) if found[0][:1] == ("spec",)]


@given(st.data())
def test_an_unknown_field_is_found_anywhere(data: st.DataObject):
    closed = [each for each in all_places() if isinstance(each[2], dict) and each[3].get("properties")]
    job, place, value, _ = data.draw(st.sampled_from(closed))
    broken = changed(job, place, {**value, "unheardOf": 1})
    assert any(each.startswith(f"{written((*place, 'unheardOf'))}: unknown field") for each in problems_of(broken))


@given(st.data())
def test_a_value_of_another_type_is_found_anywhere(data: st.DataObject):
    job, place, value, schema = data.draw(st.sampled_from([each for each in all_places() if "type" in each[3]]))
    others = {"object": {}, "array": [], "string": "x", "integer": 1, "boolean": True, "number": 1.5}
    allowed = {schema["type"], *({"integer", "number"} if schema["type"] == "number" else ())}
    other = others[data.draw(st.sampled_from(sorted(others.keys() - allowed)))]
    problems = problems_of(changed(job, place, other))
    assert any(each.startswith(f"{written(place)}: ") and "is not of type" in each for each in problems), (value, other)


@given(st.data())
def test_a_required_field_that_is_gone_is_missed(data: st.DataObject):
    owners = [each for each in all_places() if isinstance(each[2], dict) and each[3].get("required")]
    job, place, value, schema = data.draw(st.sampled_from(owners))
    gone = data.draw(st.sampled_from([name for name in schema["required"] if name in value]))
    broken = changed(job, place, {key: each for key, each in value.items() if key != gone})
    found = problems_of(broken)
    inner = schema["properties"][gone]
    # A default stands in for what is required.
    assert ("default" in inner) or f"{written(place)}: {gone} is required" in found


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("spec", "submissionMode"), 3, "spec.submissionMode: 3 is not of type string"),
        (("spec", "backoffLimit"), 2**31, "spec.backoffLimit: 2147483648 is no int32"),
        (("spec", "backoffLimit"), True, "spec.backoffLimit: True is not of type integer"),
        (("spec", "rayClusterSpec", "authOptions"), {"mode": "password"}, "'password' is none of disabled, token"),
        (("spec", "rayClusterSpec", "networkPolicy"), {"mode": "Open"}, "'Open' is none of DenyAll"),
        (("spec", "preRunningDeadlineSeconds"), 0, "0 is less than 1"),
        (("spec", "managedBy"), "me", "the managedBy field value must be either"),
        (("spec", "deletionStrategy"), {}, "deletionStrategy requires either BOTH onSuccess and onFailure"),
        (("spec", "deletionStrategy"), {"deletionRules": []}, "fewer than 1 entries"),
        (
            ("spec", "deletionStrategy"),
            {"deletionRules": [{"policy": "DeleteSelf", "condition": {}}]},
            "deletionRules[0].condition: the deletion condition requires either",
        ),
        (
            (
                "spec",
                "rayClusterSpec",
                "headGroupSpec",
                "template",
                "spec",
                "containers",
                0,
                "resources",
                "limits",
                "cpu",
            ),
            "two",
            "resources.limits.cpu: 'two' does not match",
        ),
        (
            ("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "ports"),
            [{"containerPort": 1}, {"containerPort": 1}],
            "containerPort=1, protocol=TCP is there twice",
        ),
        (("metadata", "lables"), {}, "metadata.lables: unknown field"),
        (("metadata",), {}, "metadata.name: is required"),
        (("apiVersion",), "ray.io/v2", "RayJob ray.io/v2 is none of"),
    ],
)
def test_each_kind_of_mistake_is_named(place: Place, value: Any, said: str):
    job = ray_jobs()[0]
    assert problems_of(job) == []
    assert any(said in each for each in problems_of(changed(job, place, value))), problems_of(
        changed(job, place, value)
    )


@pytest.mark.parametrize(
    ("object_", "place", "value", "said"),
    [
        (FLAVOR, ("spec", "tolerations"), [{"operator": "Equal"}], "operator must be Exists when 'key' is empty"),
        (FLAVOR, ("spec", "tolerations"), [{"key": "a", "operator": "Exists", "value": "b"}], "must be empty when"),
        (FLAVOR, ("spec", "tolerations"), [{"key": "a", "tolerationSeconds": 1}], "effect must be 'NoExecute'"),
        (FLAVOR, ("spec",), {"topologyName": "racks"}, "at least one nodeLabel is required"),
        (QUEUE, ("spec", "cohortName"), None, "borrowingLimit must be nil when cohort is empty"),
        (QUEUE, ("spec", "resourceGroups", 0, "coveredResources"), ["cpu", "memory"], "same number of resources"),
        (QUEUE, ("spec", "preemption"), {"borrowWithinCohort": {"policy": "LowerPriority"}}, "reclaimWithinCohort"),
    ],
)
def test_rules_in_cel_are_kept(object_: dict[str, Any], place: Place, value: Any, said: str):
    assert problems_of(object_) == []
    broken = changed(object_, place, value)
    if value is None:
        del broken["spec"][place[-1]]
    assert any(said in each for each in problems_of(broken)), problems_of(broken)


def test_a_change_of_what_may_not_change_is_found():
    before = changed(FLAVOR, ("spec", "topologyName"), "racks")
    after = changed(before, ("spec", "nodeLabels"), {"gpu": "b"})
    assert problems_of(after) == []
    assert problems_of(after, before) == ["spec: nodeLabels are immutable when topologyName is set"]
    job = changed(ray_jobs()[0], ("spec", "managedBy"), "ray.io/kuberay-operator")
    other = changed(job, ("spec", "managedBy"), "kueue.x-k8s.io/multikueue")
    assert problems_of(job, job) == []
    assert problems_of(other, job) == ["spec.managedBy: the managedBy field is immutable"]


def test_defaults_are_set_before_rules_are_evaluated_and_the_object_stays_as_it_was():
    job = ray_jobs()[0]
    before = copy.deepcopy(job)
    del job["spec"]["submissionMode"]
    try:
        assert defaulted(job)["spec"]["submissionMode"] == "K8sJobMode"
        assert "submissionMode" not in job["spec"]
    finally:
        job["spec"]["submissionMode"] = before["spec"]["submissionMode"]
    assert job == before


def test_kinds_and_versions_are_those_that_the_files_serve():
    for path in sorted(crd_schemas.FOLDER.glob("*/*.yaml")):
        definition = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)["spec"]
        for version in definition["versions"]:
            api = f"{definition['group']}/{version['name']}"
            object_ = {"apiVersion": api, "kind": definition["names"]["kind"]}
            assert defined(object_) is version["served"]
            assert crd_schemas.is_namespaced(api, object_["kind"]) is (definition["scope"] == "Namespaced")


def rules(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for rule in schema.get("x-kubernetes-validations") or []:
            if isinstance(rule, dict):
                yield rule["rule"]
        for value in schema.values():
            yield from rules(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from rules(value)


def test_no_rule_of_these_definitions_is_beyond_the_interpreter():
    """Otherwise it would be counted as not evaluated, and nobody would know what it says of our objects."""
    texts = {
        text
        for path in crd_schemas.FOLDER.glob("*/*.yaml")
        for text in rules(yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader))
    }
    assert len(texts) > 20
    known = base_functions.keys() | {"all", "exists", "exists_one", "filter", "has", "map"}
    assert {name for text in texts for name in re.findall(r"(\w+)\(", text)} <= known
    for text in texts:
        compiled(text)


@pytest.mark.parametrize("rule", ["self.open(", "self.isSorted()", "isQuantity(self)"])
def test_a_rule_beyond_the_interpreter_is_counted_and_no_problem(rule: str):
    judged = Judged()
    judged.judge([{"rule": rule}], "here", [])
    assert judged == Judged(unevaluated=[f"here: {rule}"])


def test_what_was_evaluated_is_counted():
    judged = judge(QUEUE)
    assert judged.evaluated >= 3
    assert judged.unevaluated == []
