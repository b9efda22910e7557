"""The server that stands for Kubernetes in tests: another client understands it, and it plays what operators do."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import CONFIG_MAP, EVENT, POD, RAY_JOB, WORKLOAD, Object
from tests.kube_server.operators import Operators
from tests.kube_server.server import KubeServer
from tests.kube_server.store import RAY_CLUSTER

LOCAL_QUEUE = """{"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "LocalQueue",
"metadata": {"name": "%s", "namespace": "default"}, "spec": {"clusterQueue": "%s"}}"""
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kubectl(kube_server_https: KubeServer, tmp_path: Path) -> Kubectl:
    """Runs kubectl against a server."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("needs kubectl")
    environment = os.environ | {"KUBECONFIG": str(kube_server_https.kubeconfig(tmp_path)), "HOME": str(tmp_path)}

    def run(*arguments: str, body: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], input=body, env=environment, capture_output=True, text=True, timeout=60
        )

    return run


def test_kubectl_understands_it(kubectl: Kubectl):
    assert "rayjobs" in kubectl("api-resources").stdout
    made = kubectl("create", "--validate=false", "-f", "-", body=LOCAL_QUEUE % ("one", "q"))
    assert made.stdout == "localqueue.kueue.x-k8s.io/one created\n", made.stderr
    again = kubectl("create", "--validate=false", "-f", "-", body=LOCAL_QUEUE % ("one", "q"))
    assert "(AlreadyExists)" in again.stderr
    apply = ("apply", "--server-side", "--validate=false", "-f", "-")
    assert "serverside-applied" in kubectl(*apply, "--field-manager=a", body=LOCAL_QUEUE % ("two", "q")).stdout
    conflict = kubectl(*apply, "--field-manager=b", body=LOCAL_QUEUE % ("two", "r"))
    assert 'conflict with "a": .spec.clusterQueue' in conflict.stderr
    assert kubectl("get", "localqueues", "-o", "name").stdout.split() == [
        "localqueue.kueue.x-k8s.io/one", "localqueue.kueue.x-k8s.io/two",
    ]  # fmt: skip
    waited = kubectl("wait", "--for=create", "localqueue/one", "--timeout=5s")
    assert waited.returncode == 0, waited.stderr
    assert "deleted" in kubectl("delete", "localqueue", "one", "--timeout=10s").stdout
    assert "NotFound" in kubectl("get", "localqueue", "one").stderr


@pytest.fixture
def operators(server: KubeServer) -> Operators:
    """The operators of a server with one RayJob "night"."""
    pod = {"spec": {"containers": [{"name": "ray-head", "image": "resnet-dist:0.2.0-cpu"}]}}
    worker = {"groupName": "workers", "replicas": 2, "minReplicas": 2, "maxReplicas": 2, "rayStartParams": {}}
    worker["template"] = {"spec": {"containers": [{"name": "ray-worker", "image": "resnet-dist:0.2.0-gpu"}]}}
    cluster = {"headGroupSpec": {"rayStartParams": {}, "template": pod}, "workerGroupSpecs": [worker]}
    labels = {"kueue.x-k8s.io/queue-name": "team-a", "kueue.x-k8s.io/priority-class": "research"}
    job = {
        "apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "night", "labels": labels},
        "spec": {"entrypoint": "true", "backoffLimit": 1, "rayClusterSpec": cluster},
    }  # fmt: skip
    server.store.create(RAY_JOB, "default", job)
    return Operators(server)


def names(found: list[Object]) -> list[str]:
    return [each["metadata"]["name"] for each in found]


def test_a_job_that_waits_is_let_go_and_succeeds(operators: Operators, api: KubeApi):
    workload = operators.queue("night")
    assert workload["spec"]["queueName"] == "team-a"
    assert api.get(RAY_JOB, "night")["spec"]["suspend"] is True
    assert api.get(RAY_JOB, "night")["status"]["jobDeploymentStatus"] == "Suspended"
    operators.admit("night")
    conditions = {each["type"]: each["status"] for each in operators.workload("night")["status"]["conditions"]}
    assert conditions == {"QuotaReserved": "True", "Admitted": "True"}
    assert len(operators.start("night")) == 3
    operators.unschedulable("night")
    assert {each["reason"] for each in api.list(EVENT)} == {"FailedScheduling"}
    operators.image_pull_failure("night")
    waiting = operators.pods("night")[0]["status"]["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] == "ImagePullBackOff"
    submitter = operators.run("night")["metadata"]["name"]
    operators.say("night", "epoch 1")
    operators.succeed("night")
    assert list(api.pod_log(submitter, follow=True)) == ["epoch 1"]
    assert api.get(RAY_JOB, "night")["status"]["jobStatus"] == "SUCCEEDED"


def test_a_job_that_is_killed_is_tried_again_and_fails(operators: Operators, api: KubeApi):
    first = names(operators.start("night"))
    operators.run("night")
    killed = operators.oom_kill("night")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (killed["exitCode"], killed["reason"]) == (137, "OOMKilled")
    operators.retry("night")
    assert api.list(POD) == []
    assert api.get(RAY_JOB, "night")["status"]["jobDeploymentStatus"] == "Retrying"
    assert set(names(operators.start("night"))).isdisjoint(first)
    operators.run("night")
    operators.fail("night", 3)
    status = api.get(RAY_JOB, "night")["status"]
    assert (status["jobDeploymentStatus"], status["failed"]) == ("Failed", 2)


def test_a_job_that_is_evicted_waits_again_and_one_that_is_deleted_takes_all_along(operators: Operators, api: KubeApi):
    operators.queue("night")
    operators.admit("night")
    operators.start("night")
    operators.evict("night")
    assert api.list(RAY_CLUSTER) == []
    operators.admit("night")
    operators.start("night")
    operators.run("night")
    uid = api.get(RAY_JOB, "night")["metadata"]["uid"]
    reference = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": "night", "uid": uid}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "night", "ownerReferences": [reference]}}
    api.create(CONFIG_MAP, body)
    api.delete(RAY_JOB, "night")
    for kind in (RAY_JOB, RAY_CLUSTER, POD, WORKLOAD, CONFIG_MAP):
        assert api.list(kind) == []
    late = api.create(CONFIG_MAP, body)
    assert late["metadata"]["uid"]
    assert api.list(CONFIG_MAP) == [], "what is owned by nothing that is there goes at once"
