"""A team's objects in a cluster, and jobs that are checked against its queue."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import SubmissionError
from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import (
    ADMISSION_POLICY_BINDING,
    CLUSTER_QUEUE,
    CLUSTER_ROLE,
    LOCAL_QUEUE,
    NAMESPACE,
    RESOURCE_FLAVOR,
    WORKLOAD_PRIORITY_CLASS,
    Kind,
)
from cluster.kube.manifests import manifest_folder
from cluster.kube.queues.admission import check_priority, check_queue
from cluster.kube.queues.apply import apply_team
from cluster.kube.queues.manifest import POD_POLICY, SECRET, TEAM_LABEL, kind_of, render_team
from cluster.kube.queues.team import Amounts, Members, Names, Quota, Storage, Team
from tests.kube_server.server import KubeServer

WRITES = ("create", "patch", "update", "delete")


@pytest.fixture
def server(kube_server: KubeServer) -> KubeServer:
    for name in ("cpu", "a100"):
        put(kube_server, RESOURCE_FLAVOR, name, {"spec": {}})
    for name, value in (("production", 1000), ("idle", 0)):
        put(kube_server, WORKLOAD_PRIORITY_CLASS, name, {"value": value})
    put(kube_server, CLUSTER_ROLE, "resnet-dist-queue-viewer", {"rules": []})
    put(kube_server, ADMISSION_POLICY_BINDING, POD_POLICY, {"spec": {}})
    return kube_server


@pytest.fixture
def api(server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubeApi:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
    return KubeApi.connect()


def put(server: KubeServer, kind: Kind, name: str, rest: dict[str, Any]) -> None:
    head = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": name}}
    server.store.create(kind, "", {**head, **rest})


def job(gpus: int, cpus: int = 1, memory_gib: int = 1) -> dict[str, Any]:
    """A RayJob with one worker."""

    def pod(**requests: Any) -> dict[str, Any]:
        return {"spec": {"containers": [{"resources": {"requests": requests}}]}}

    worker = pod(**{"cpu": cpus, "memory": f"{memory_gib}Gi", "nvidia.com/gpu": gpus})
    head, submitter = pod(cpu=2, memory="6Gi"), pod(cpu="250m", memory="1Gi")
    cluster = {
        "headGroupSpec": {"template": head},
        "workerGroupSpecs": [{"groupName": "workers", "replicas": 1, "template": worker}],
    }
    return {"spec": {"rayClusterSpec": cluster, "submitterPodTemplate": submitter}}


def team(name: str = "vision", gpus: int = 4, borrow: int | None = 4, **rest: Any) -> Team:
    quota = (
        Quota(flavor="cpu", cpus=32, memory_gib=128),
        Quota(flavor="a100", gpus=gpus, cpus=32, memory_gib=256, borrow=Amounts(gpus=borrow)),
    )
    return Team(team=Names(name=name), quota=quota, **{"members": Members(groups=(name,)), **rest})


def written(server: KubeServer) -> int:
    return sum(server.count(verb) for verb in WRITES) - server.count("create", "selfsubjectaccessreviews")


def stored(server: KubeServer) -> dict[tuple[str, str], Any]:
    return {
        (kind.name, body["metadata"]["name"]): body
        for kind in server.store.kinds
        for body in server.store.objects(kind)
    }


def test_a_second_time_nothing_changes(server: KubeServer, api: KubeApi) -> None:
    first = apply_team(api, team())
    assert {each.change for each in first} == {"created"}
    assert [(each.kind, each.name) for each in first] == [
        (kind_of(each).name, each["metadata"]["name"]) for each in render_team(team()).all
    ]
    before = stored(server)
    assert {each.change for each in apply_team(api, team())} == {"unchanged"}
    assert stored(server) == before


def test_what_the_file_says_now_is_what_holds_and_nothing_else_is_touched(server: KubeServer, api: KubeApi) -> None:
    apply_team(api, team(storage=Storage(secret="keys")))
    before = stored(server)
    applied = {(each.kind, each.name): each.change for each in apply_team(api, team(gpus=6, borrow=None))}
    changed = {key for key, change in applied.items() if change == "changed"}
    assert changed == {("ClusterQueue", "vision"), ("LocalQueue", "vision"), ("Namespace", "vision")}
    after = stored(server)
    assert {key for key in after if after[key] != before[key]} == changed
    gpus = after["ClusterQueue", "vision"]["spec"]["resourceGroups"][0]["flavors"][1]["resources"][2]
    assert gpus == {"name": "nvidia.com/gpu", "nominalQuota": "6"}
    for kind in ("LocalQueue", "Namespace"):
        assert before[kind, "vision"]["metadata"]["annotations"] == {SECRET: "keys"}
        assert not after[kind, "vision"]["metadata"].get("annotations")
    assert server.count("delete") == 0


def test_a_dry_run_judges_and_changes_nothing(server: KubeServer, api: KubeApi) -> None:
    before = stored(server)
    first = {each.change for each in apply_team(api, team(), dry_run=True)}
    assert first == {"created", "not judged"}  # the namespace is not there, so what is in it cannot be judged
    assert stored(server) == before
    apply_team(api, team())
    before = stored(server)
    again = {(each.kind, each.name): each.change for each in apply_team(api, team(gpus=8), dry_run=True)}
    assert {key for key, change in again.items() if change != "unchanged"} == {("ClusterQueue", "vision")}
    assert stored(server) == before


def test_all_missing_permissions_are_named_at_once_and_before_anything_is_written(
    server: KubeServer, api: KubeApi
) -> None:
    server.deny("create", "clusterqueues")
    server.deny("patch", "namespaces")
    server.deny("*", "rolebindings", "vision")
    with pytest.raises(SubmissionError) as refused:
        apply_team(api, team())
    text = str(refused.value)
    assert "create clusterqueues.kueue.x-k8s.io;" in text
    assert "patch namespaces;" in text
    assert "get and create and patch rolebindings.rbac.authorization.k8s.io in namespace vision" in text
    assert "localqueues" not in text
    assert "--output vision.yaml" in text
    assert written(server) == 0


def test_a_permission_that_is_lost_in_between_names_verb_and_resource(server: KubeServer, api: KubeApi) -> None:
    apply_team(api, team())
    server.deny("list", "resourceflavors")
    with pytest.raises(SubmissionError, match=r"list resourceflavors\.kueue\.x-k8s\.io"):
        apply_team(api, team())


def test_without_kueue_nothing_is_written(server: KubeServer, api: KubeApi) -> None:
    server.remove_group("kueue.x-k8s.io")
    with pytest.raises(SubmissionError, match="Kueue is not installed"):
        apply_team(api, team())
    with pytest.raises(SubmissionError, match="Kueue is not installed"):
        check_queue(api, "vision", "vision", job(gpus=1))
    assert written(server) == 0


def test_another_version_of_kueue_is_named(server: KubeServer, api: KubeApi) -> None:
    server.serve_other_version("kueue.x-k8s.io", "v1beta1")
    with pytest.raises(SubmissionError, match=r"v1beta1.*v1beta2"):
        apply_team(api, team())


def test_an_unknown_flavor_is_refused_with_those_there_are(server: KubeServer, api: KubeApi) -> None:
    wrong = Team(team=Names(name="vision"), quota=(Quota(flavor="h100", gpus=1), Quota(flavor="a100", gpus=1)))
    with pytest.raises(SubmissionError, match=r"no ResourceFlavor h100; use one of a100, cpu, or let an admin"):
        apply_team(api, wrong)
    assert written(server) == 0


def test_a_role_that_would_be_bound_must_be_there(server: KubeServer, api: KubeApi) -> None:
    server.store.delete(CLUSTER_ROLE, "", "resnet-dist-queue-viewer")
    with pytest.raises(SubmissionError, match=r"no ClusterRole resnet-dist-queue-viewer; .*-k k8s/queues/admin"):
        apply_team(api, team())
    assert written(server) == 0


def test_without_the_policy_on_pods_no_team_is_made(server: KubeServer, api: KubeApi) -> None:
    server.store.delete(ADMISSION_POLICY_BINDING, "", POD_POLICY)
    with pytest.raises(SubmissionError, match=r"could read every Secret of the namespace; .*-k k8s/queues/admin"):
        apply_team(api, team())
    assert written(server) == 0


VERBS = ("get", "list", "watch", "create", "patch", "update", "delete", "deletecollection")


def limit_to(server: KubeServer, *, cluster: str, namespace: str) -> None:
    """Allow what two roles of k8s/queues/admin grant, one bound cluster-wide and one in the namespace vision."""
    roles = {
        each["metadata"]["name"]: {
            (resource, verb) for rule in each["rules"] for resource in rule["resources"] for verb in rule["verbs"]
        }
        for each in yaml.safe_load_all((manifest_folder() / "queues" / "admin" / "roles.yaml").read_text())
    }
    for kind in server.store.kinds:
        for verb in VERBS:
            if (kind.plural, verb) not in roles[cluster]:
                allowed = (kind.plural, verb) in roles[namespace] and (kind.namespaced or kind is NAMESPACE)
                server.deny(verb, kind.plural, "default" if allowed else "")


def test_the_two_roles_of_admins_suffice_in_a_namespace_that_is_there(server: KubeServer, api: KubeApi) -> None:
    put(server, NAMESPACE, "vision", {})
    server.store.patch(NAMESPACE, "", "vision", {"metadata": {"labels": {TEAM_LABEL: "vision"}}})
    limit_to(server, cluster="resnet-dist-queue-admin", namespace="resnet-dist-team-admin")
    changes = {(each.kind, each.change) for each in apply_team(api, team(storage=Storage(secret="keys")))}
    assert ("Namespace", "changed") in changes
    assert {each.change for each in apply_team(api, team(storage=Storage(secret="keys")))} == {"unchanged"}


def test_creating_namespaces_is_no_right_of_theirs(server: KubeServer, api: KubeApi) -> None:
    limit_to(server, cluster="resnet-dist-queue-admin", namespace="resnet-dist-team-admin")
    with pytest.raises(SubmissionError, match=r"no permission to create namespaces\.\n") as refused:
        apply_team(api, team())
    assert "resnet-dist-team-admin" in str(refused.value)
    assert written(server) == 0


@pytest.mark.parametrize("owner", [None, "inspection"])
def test_what_belongs_to_somebody_else_is_left_alone(server: KubeServer, api: KubeApi, owner: str | None) -> None:
    put(server, NAMESPACE, "vision", {})
    if owner is not None:
        server.store.patch(NAMESPACE, "", "vision", {"metadata": {"labels": {TEAM_LABEL: owner}}})
    with pytest.raises(
        SubmissionError, match=r"Namespace vision is there already .*kubectl label namespace vision"
    ) as why:
        apply_team(api, team())
    assert (owner or "not made for a team") in str(why.value)
    assert written(server) == 0
    server.store.patch(NAMESPACE, "", "vision", {"metadata": {"labels": {TEAM_LABEL: "vision"}}})
    apply_team(api, team())


def test_a_queue_of_somebody_else_is_left_alone(server: KubeServer, api: KubeApi) -> None:
    put(server, CLUSTER_QUEUE, "vision", {"spec": {}})
    with pytest.raises(
        SubmissionError, match=r"ClusterQueue vision is there already .*kubectl label clusterqueue vision"
    ):
        apply_team(api, team())
    assert written(server) == 0


def test_what_somebody_changed_by_hand_is_not_overwritten(server: KubeServer, api: KubeApi) -> None:
    apply_team(api, team())
    by_hand = {"spec": {"preemption": {"withinClusterQueue": "Never"}}}
    server.store.patch(CLUSTER_QUEUE, "", "vision", by_hand)
    with pytest.raises(SubmissionError, match=r"changed it by other means: .*--force-conflicts"):
        apply_team(api, team())
    assert stored(server)["ClusterQueue", "vision"]["spec"]["preemption"]["withinClusterQueue"] == "Never"


@pytest.mark.usefixtures("server")
def test_a_job_fits_up_to_what_the_queue_may_borrow(api: KubeApi) -> None:
    apply_team(api, team())
    apply_team(api, team("inspection", gpus=2, borrow=None))
    assert check_queue(api, "vision", "vision", job(gpus=6, cpus=20, memory_gib=64)) == []
    with pytest.raises(
        SubmissionError,
        match=r"never start in queue vision: .*asks for 7 GPUs .*flavor a100 can give at most 6 GPUs",
    ):
        check_queue(api, "vision", "vision", job(gpus=7))


@pytest.mark.usefixtures("server")
def test_a_queue_that_is_not_there_is_refused_with_those_there_are(api: KubeApi) -> None:
    apply_team(api, team())
    with pytest.raises(SubmissionError, match="namespace vision has no queue 'visoin'; use one of vision"):
        check_queue(api, "visoin", "vision", job(gpus=1))
    with pytest.raises(SubmissionError, match="namespace default has no queue 'vision' and no other"):
        check_queue(api, "vision", "default", job(gpus=1))
    with pytest.raises(SubmissionError, match="no namespace 'nowhere'"):
        check_queue(api, "vision", "nowhere", job(gpus=1))


def test_a_queue_that_admits_nothing_is_refused_with_its_reason(server: KubeServer, api: KubeApi) -> None:
    apply_team(api, team())
    conditions = [{
        "type": "Active", "status": "False", "reason": "FlavorNotFound", "message": "references missing ResourceFlavor",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]  # fmt: skip
    server.store.patch(CLUSTER_QUEUE, "", "vision", {"status": {"conditions": conditions}}, part="status")
    with pytest.raises(
        SubmissionError, match=r"ClusterQueue vision .*admits no jobs: FlavorNotFound: references missing"
    ):
        check_queue(api, "vision", "vision", job(gpus=1))
    server.store.patch(LOCAL_QUEUE, "vision", "vision", {"spec": {"stopPolicy": "Hold"}})
    with pytest.raises(SubmissionError, match=r"queue vision in namespace vision admits no jobs: .*stopPolicy Hold"):
        check_queue(api, "vision", "vision", job(gpus=1))


def test_a_queue_without_its_share_is_refused(server: KubeServer, api: KubeApi) -> None:
    apply_team(api, team())
    server.store.delete(CLUSTER_QUEUE, "", "vision")
    with pytest.raises(SubmissionError, match=r"ClusterQueue vision, which is not there"):
        check_queue(api, "vision", "vision", job(gpus=1))


def test_what_may_not_be_read_is_said_and_not_refused(server: KubeServer, api: KubeApi) -> None:
    apply_team(api, team())
    server.deny("list", "clusterqueues")
    server.deny("list", "workloadpriorityclasses")
    (note,) = check_queue(api, "vision", "vision", job(gpus=1000))
    assert "no permission" in note
    assert "clusterqueues.kueue.x-k8s.io" in note
    (note,) = check_priority(api, "urgent")
    assert "workloadpriorityclasses" in note


def test_a_job_is_judged_without_flavors_that_may_not_be_read(server: KubeServer, api: KubeApi) -> None:
    apply_team(api, team())
    server.deny("list", "resourceflavors")
    (note,) = check_queue(api, "vision", "vision", job(gpus=4))
    assert "whether queue vision can ever start the job is judged without taints and labels of the flavors" in note
    with pytest.raises(SubmissionError, match="can never start"):
        check_queue(api, "vision", "vision", job(gpus=1000))


def test_a_priority_must_be_one_of_those_there_are(api: KubeApi) -> None:
    assert check_priority(api, "production") == []
    with pytest.raises(SubmissionError, match=r"priority 'urgent': .*use one of production, idle"):
        check_priority(api, "urgent")
