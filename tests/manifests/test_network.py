"""Who may speak to whom, with the policies that ship and the labels that pods get."""

import dataclasses

import pytest

from cluster.kube.manifests import load_job
from tests.manifests.network import Pod, allowed
from tests.manifests.places import K8S, build, needs_kubectl, read
from tests.manifests.pods import pod_templates

BASE = read(K8S / "base" / "network-policies.yaml")
PODS = {
    each["metadata"]["labels"]["resnet-dist/role"]: Pod(each["metadata"]["labels"])
    for job in load_job("train")
    for _, each in pod_templates(job)
}
HEAD, WORKER, SUBMITTER = PODS["head"], PODS["worker"], PODS["submitter"]
STRANGER = Pod({"app": "web"})
NEIGHBOUR = dataclasses.replace(WORKER, namespace="other")
OPERATOR = Pod({"app.kubernetes.io/component": "kuberay-operator"}, "kuberay-system")
FORGED = Pod({"app.kubernetes.io/component": "kuberay-operator"}, "other")
DNS = Pod({"k8s-app": "kube-dns"}, "kube-system")
PROMETHEUS = Pod({"app.kubernetes.io/name": "prometheus"}, "monitoring")
STORE = Pod(namespace="outside", address="52.216.1.1")
METADATA = Pod(namespace="outside", address="169.254.169.254")


@pytest.mark.parametrize("port", [6379, 8265, 10001, 29500, 45678])
def test_heads_and_workers_speak_freely(port: int):
    for one in (HEAD, WORKER):
        for other in (HEAD, WORKER):
            assert allowed(BASE, one, other, port)


@pytest.mark.parametrize("pod", [HEAD, WORKER, SUBMITTER])
def test_names_are_resolved(pod: Pod):
    assert allowed(BASE, pod, DNS, 53, "UDP")
    assert allowed(BASE, pod, DNS, 53)
    assert not allowed(BASE, pod, DNS, 80)


def test_the_store_is_reached_and_nothing_else_outside():
    for pod in (HEAD, WORKER):
        assert allowed(BASE, pod, STORE, 443)
        assert not allowed(BASE, pod, STORE, 80)
        assert not allowed(BASE, pod, STORE, 22)
        for port in (80, 443):
            assert not allowed(BASE, pod, METADATA, port)
    assert not allowed(BASE, SUBMITTER, STORE, 443)


def test_the_dashboard_is_the_operators_and_the_submitters():
    for pod in (OPERATOR, SUBMITTER):
        assert allowed(BASE, pod, HEAD, 8265)
        assert not allowed(BASE, pod, HEAD, 6379)
        assert not allowed(BASE, pod, WORKER, 8265)
    for pod in (STRANGER, NEIGHBOUR, FORGED, STORE, PROMETHEUS):
        assert not any(allowed(BASE, pod, other, port) for other in PODS.values() for port in (8080, 8265, 10001, 6379))


def test_pods_of_nobody_have_no_network():
    for other in (*PODS.values(), STORE, DNS, NEIGHBOUR):
        assert not allowed(BASE, STRANGER, other, 443)
        assert not allowed(BASE, STRANGER, other, 53, "UDP")
    assert not allowed(BASE, NEIGHBOUR, STRANGER, 80)


def test_prometheus_reads_metrics_and_nothing_else():
    policies = [*BASE, *read(K8S / "components" / "monitoring" / "network-policy.yaml")]
    for pod in (HEAD, WORKER):
        assert allowed(policies, PROMETHEUS, pod, 8080)
        assert not allowed(policies, PROMETHEUS, pod, 8265)
        assert not allowed(policies, STRANGER, pod, 8080)
    assert not allowed(policies, PROMETHEUS, SUBMITTER, 8080)


@needs_kubectl
def test_an_autoscaler_reaches_the_api_server_and_workers_do_not():
    policies = [each for each in build(K8S / "overlays" / "gpu-elastic") if each["kind"] == "NetworkPolicy"]
    server = Pod(namespace="outside", address="10.96.0.1")
    assert allowed(policies, HEAD, server, 6443)
    assert not allowed(policies, WORKER, server, 6443)
    assert not allowed(policies, HEAD, METADATA, 443)


def test_an_identity_is_reached_where_it_is_chosen():
    policies = BASE + read(K8S / "components" / "storage-workload-identity" / "network-policy.yaml")
    for pod in (HEAD, WORKER):
        assert allowed(policies, pod, METADATA, 80)
        assert not allowed(policies, pod, METADATA, 443)
    assert not allowed(policies, SUBMITTER, METADATA, 80)


@pytest.mark.parametrize("gone", sorted(each["metadata"]["name"] for each in BASE))
def test_each_policy_is_needed(gone: str):
    """Without it something above would fail: a policy that changes nothing is one that nobody understands."""
    rest = [each for each in BASE if each["metadata"]["name"] != gone]
    ends = (HEAD, WORKER, SUBMITTER, STRANGER, OPERATOR, STORE, DNS)
    tried = [
        (one, other, port, kind)
        for one in ends
        for other in ends
        for port in (53, 443, 8265)
        for kind in ("TCP", "UDP")
    ]
    assert any(allowed(BASE, *each) != allowed(rest, *each) for each in tried)
