"""Reading and writing objects where nothing goes wrong on the way."""

import pytest

from cluster.errors import NoSuchObjectError, ObjectChangedError, SubmissionError
from cluster.kube.client.api import REQUEST, KubeApi
from cluster.kube.client.kinds import CONFIG_MAP, EVENT, NAMESPACE, POD, RAY_JOB, RESOURCE_FLAVOR, Kind, Object
from tests.kube_server.faults import Fault
from tests.kube_server.server import KubeServer
from tests.kube_server.store import WriteOptions


def config_map(name: str, namespace: str | None = None, **data: str) -> Object:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def names(found: list[Object]) -> list[str]:
    return [each["metadata"]["name"] for each in found]


def test_what_is_created_is_there_and_the_body_is_left_alone(api: KubeApi, server: KubeServer):
    body = config_map("one", key="value")
    made = api.create(CONFIG_MAP, body)
    assert body == config_map("one", key="value")
    assert made["metadata"]["uid"]
    assert made["metadata"]["namespace"] == "default"
    assert made["metadata"]["annotations"].keys() == {REQUEST}
    assert api.get(CONFIG_MAP, "one") == made == server.store.get(CONFIG_MAP, "default", "one")


def test_a_namespace_of_the_body_the_call_and_the_api_in_this_order(api: KubeApi, server: KubeServer):
    server.add_namespace("team-a")
    api.create(CONFIG_MAP, config_map("here"))
    api.create(CONFIG_MAP, config_map("there", "team-a"))
    assert names(api.list(CONFIG_MAP)) == ["here"]
    assert names(api.list(CONFIG_MAP, namespace="team-a")) == ["there"]
    assert names(api.list(CONFIG_MAP, everywhere=True)) == ["here", "there"]
    api.namespace = "team-a"
    assert names(api.list(CONFIG_MAP)) == ["there"]
    assert names(api.list(NAMESPACE)) == ["default", "team-a"]


def test_labels_choose(api: KubeApi):
    for name, labels in {"a": {"app": "x", "tier": "1"}, "b": {"app": "x"}, "c": {"app": "y", "tier": "1"}}.items():
        body = config_map(name)
        body["metadata"]["labels"] = labels
        api.create(CONFIG_MAP, body)
    assert names(api.list(CONFIG_MAP, {"app": "x"})) == ["a", "b"]
    assert names(api.list(CONFIG_MAP, {"app": "x", "tier": "1"})) == ["a"]


def test_listed_objects_say_what_they_are(api: KubeApi):
    made = api.create(CONFIG_MAP, config_map("one"))
    assert api.list(CONFIG_MAP) == [made]


def _fill(server: KubeServer, count: int) -> None:
    for number in range(count):
        body = {
            "apiVersion": RESOURCE_FLAVOR.api_version,
            "kind": "ResourceFlavor",
            "metadata": {"name": f"f{number:04d}"},
        }
        server.store.create(RESOURCE_FLAVOR, "", body)


def test_long_lists_come_in_pages_of_one_moment(api: KubeApi, server: KubeServer):
    _fill(server, 1201)
    assert names(api.list(RESOURCE_FLAVOR)) == [f"f{number:04d}" for number in range(1201)]
    assert server.count("list", "resourceflavors") == 3


def test_pages_that_expire_are_read_anew(api: KubeApi, server: KubeServer):
    _fill(server, 501)
    server.faults.add(Fault("answer", verb="list", path="continue=", code=410))
    assert len(api.list(RESOURCE_FLAVOR)) == 501
    assert server.count("list", "resourceflavors") == 3


def test_a_dry_run_is_judged_and_not_carried_out(api: KubeApi):
    made = api.create(CONFIG_MAP, config_map("one"), dry_run=True)
    assert made["metadata"]["uid"]
    assert api.list(CONFIG_MAP) == []
    with pytest.raises(SubmissionError, match=r'unknown field "dta"'):
        api.create(CONFIG_MAP, config_map("one") | {"dta": {}}, dry_run=True)
    stored = api.create(CONFIG_MAP, config_map("one", key="old"))
    changed = stored | {"data": {"key": "new"}}
    assert api.replace(CONFIG_MAP, changed, dry_run=True)["data"] == {"key": "new"}
    assert api.apply(CONFIG_MAP, config_map("two"), dry_run=True)["metadata"]["name"] == "two"
    assert api.list(CONFIG_MAP) == [stored]


def test_of_two_writers_the_second_is_told(api: KubeApi):
    api.create(CONFIG_MAP, config_map("one", key="0"))
    mine, theirs = api.get(CONFIG_MAP, "one"), api.get(CONFIG_MAP, "one")
    after = api.replace(CONFIG_MAP, theirs | {"data": {"key": "theirs"}})
    with pytest.raises(ObjectChangedError, match=r"'one' in namespace default: .*modified"):
        api.replace(CONFIG_MAP, mine | {"data": {"key": "mine"}})
    assert api.get(CONFIG_MAP, "one") == after
    with pytest.raises(ObjectChangedError, match="already exists"):
        api.create(CONFIG_MAP, config_map("one", key="0"))


def test_a_patch_changes_some_fields_and_takes_others_away(api: KubeApi):
    api.create(CONFIG_MAP, config_map("one", a="1", b="2"))
    after = api.patch(CONFIG_MAP, "one", {"data": {"a": None, "c": "3"}, "metadata": {"labels": {"x": "y"}}})
    assert after["data"] == {"b": "2", "c": "3"}
    assert after["metadata"]["labels"] == {"x": "y"}
    assert api.get(CONFIG_MAP, "one") == after
    stale = {"metadata": {"resourceVersion": "1"}, "data": {"a": "9"}}
    with pytest.raises(ObjectChangedError):
        api.patch(CONFIG_MAP, "one", stale)


def test_an_apply_keeps_what_others_have_set_and_takes_back_what_was_ours(api: KubeApi, server: KubeServer):
    api.apply(CONFIG_MAP, config_map("one", ours="1", shared="1"))
    server.store.patch(CONFIG_MAP, "default", "one", {"data": {"theirs": "1"}}, WriteOptions(manager="kubectl-edit"))
    after = api.apply(CONFIG_MAP, config_map("one", ours="2"))
    assert after["data"] == {"ours": "2", "theirs": "1"}
    with pytest.raises(ObjectChangedError, match=r'conflict with "kubectl-edit": \.data\.theirs'):
        api.apply(CONFIG_MAP, config_map("one", theirs="2"))
    assert api.apply(CONFIG_MAP, config_map("one", ours="2")) == after


def test_what_was_created_is_not_taken_back_by_an_apply(api: KubeApi):
    api.create(CONFIG_MAP, config_map("one", made="1"))
    assert api.apply(CONFIG_MAP, config_map("one", applied="1"))["data"] == {"made": "1", "applied": "1"}
    with pytest.raises(ObjectChangedError, match=r'conflict with "resnet-dist": \.data\.made'):
        api.apply(CONFIG_MAP, config_map("one", made="2"))


def test_a_deletion_takes_what_is_owned_along_and_may_be_repeated(api: KubeApi, server: KubeServer):
    owner = api.create(CONFIG_MAP, config_map("owner"))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    owned = config_map("owned")
    owned["metadata"]["ownerReferences"] = [reference | {"blockOwnerDeletion": True}]
    api.create(CONFIG_MAP, owned)
    api.create(CONFIG_MAP, config_map("other"))
    api.delete(CONFIG_MAP, "owner")
    assert names(api.list(CONFIG_MAP)) == ["other"]
    api.delete(CONFIG_MAP, "owner")
    api.delete(CONFIG_MAP, "other", uid="another's")
    assert names(api.list(CONFIG_MAP)) == ["other"]
    assert server.count("delete") == 2


def test_what_is_made_again_under_a_name_is_not_deleted_as_the_old_one(api: KubeApi):
    old = api.create(CONFIG_MAP, config_map("one"))
    api.delete(CONFIG_MAP, "one", uid=old["metadata"]["uid"])
    new = api.create(CONFIG_MAP, config_map("one"))
    api.delete(CONFIG_MAP, "one", uid=old["metadata"]["uid"])
    assert api.get(CONFIG_MAP, "one") == new


def test_what_waits_for_its_finalizers_is_still_there(api: KubeApi):
    body = config_map("one")
    body["metadata"]["finalizers"] = ["example.com/wait"]
    api.create(CONFIG_MAP, body)
    api.delete(CONFIG_MAP, "one")
    assert api.get(CONFIG_MAP, "one")["metadata"]["deletionTimestamp"]
    api.patch(CONFIG_MAP, "one", {"metadata": {"finalizers": None}})
    with pytest.raises(NoSuchObjectError, match="'one' in namespace default: there is none"):
        api.get(CONFIG_MAP, "one")


def test_what_is_served_and_what_is_allowed(api: KubeApi, server: KubeServer):
    assert api.serves(RAY_JOB)
    assert api.serves(POD)
    assert not api.serves(Kind("ray.io/v2", "RayJob", "rayjobs"))
    assert not api.serves(Kind("ray.io/v1", "RayService", "rayservices"))
    server.deny("create", "rayjobs", "default")
    server.deny("get", "pods/log")
    assert not api.may("create", RAY_JOB)
    assert api.may("create", RAY_JOB, "team-a")
    assert api.may("get", POD)
    assert not api.may("get", Kind("v1", "Pod", "pods/log"))
    server.deny("*", "namespaces")
    assert not api.may("list", NAMESPACE)
    assert api.may("list", EVENT)
