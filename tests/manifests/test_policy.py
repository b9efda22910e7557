"""The policy names each thing that it forbids, and finds nothing in what ships."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from cluster.kube.manifests import load_job
from tests.manifests.policy import problems_of

Object = dict[str, Any]


@pytest.fixture
def job() -> Object:
    (found,) = [each for each in load_job("train") if each["kind"] == "RayJob"]
    assert problems_of(found) == []
    return found


def head(job: Object) -> Object:
    return job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]


def worker(job: Object) -> Object:
    return job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]


def submitter(job: Object) -> Object:
    return job["spec"]["submitterPodTemplate"]["spec"]


def put(tree: Object, *path: str | int, value: Any) -> None:
    inner: Any = tree
    for key in path[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(key, str) else inner[key]
    inner[path[-1]] = value


CONTEXT = ("containers", 0, "securityContext")
BREACHES: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "host network": (("hostNetwork",), True, "spec.hostNetwork: must not be set (baseline)"),
    "host processes": (("hostPID",), True, "spec.hostPID: must not be set (baseline)"),
    "host IPC": (("hostIPC",), True, "spec.hostIPC: must not be set (baseline)"),
    "host path": (("volumes", 0), {"name": "tmp", "hostPath": {"path": "/"}}, "hostPath is not allowed (restricted)"),
    "NFS in a pod": (("volumes", 0), {"name": "tmp", "nfs": {"server": "a", "path": "/"}}, "nfs is not allowed"),
    "volume without bound": (("volumes", 0), {"name": "tmp", "emptyDir": {}}, "emptyDir.sizeLimit: is required"),
    "sysctl": (("securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}], "msgmax is not allowed"),
    "root for the pod": (("securityContext", "runAsUser"), 0, "spec.securityContext.runAsUser: must not be 0"),
    "root may be, for the pod": (("securityContext", "runAsNonRoot"), False, "runAsNonRoot: must not be false"),
    "no word on root": (("securityContext", "runAsNonRoot"), None, "runAsNonRoot: must be true, here or for the pod"),
    "no seccomp": (("securityContext", "seccompProfile"), None, "seccompProfile.type: must be RuntimeDefault"),
    "seccomp off": (("securityContext", "seccompProfile"), {"type": "Unconfined"}, "must not be Unconfined"),
    "AppArmor off": (("securityContext", "appArmorProfile"), {"type": "Unconfined"}, "appArmorProfile.type"),
    "SELinux": (("securityContext", "seLinuxOptions"), {"type": "spc_t"}, "seLinuxOptions"),
    "SELinux user": (("securityContext", "seLinuxOptions"), {"user": "system_u"}, "seLinuxOptions"),
    "privileged": ((*CONTEXT, "privileged"), True, "securityContext.privileged: must not be set"),
    "escalation": ((*CONTEXT, "allowPrivilegeEscalation"), True, "allowPrivilegeEscalation: must be false"),
    "no word on escalation": ((*CONTEXT, "allowPrivilegeEscalation"), None, "allowPrivilegeEscalation: must be false"),
    "writable root": ((*CONTEXT, "readOnlyRootFilesystem"), False, "readOnlyRootFilesystem: must be true"),
    "root": ((*CONTEXT, "runAsUser"), 0, "runAsUser: must not be 0"),
    "root may be": ((*CONTEXT, "runAsNonRoot"), False, "runAsNonRoot: must not be false"),
    "capabilities kept": ((*CONTEXT, "capabilities"), {"drop": ["NET_RAW"]}, "capabilities.drop: must have ALL"),
    "capability added": ((*CONTEXT, "capabilities"), {"drop": ["ALL"], "add": ["SYS_ADMIN"]}, "capabilities.add"),
    "own /proc": ((*CONTEXT, "procMount"), "Unmasked", "procMount: must be Default"),
    "Windows host": ((*CONTEXT, "windowsOptions"), {"hostProcess": True}, "hostProcess: must not be set"),
    "host port": (("containers", 0, "ports"), [{"containerPort": 1, "hostPort": 1}], "hostPort 1 is not allowed"),
    "probe of a host": (
        ("containers", 0, "livenessProbe"), {"httpGet": {"port": 1, "host": "a"}}, "livenessProbe.httpGet.host",
    ),
    "latest": (("containers", 0, "image"), "resnet-dist:latest", "'resnet-dist:latest' names no version"),
    "no tag": (("containers", 0, "image"), "registry.example:5000/resnet-dist", "names no version"),
    "no image": (("containers", 0, "image"), "", "names no version"),
    "no requests": (("containers", 0, "resources"), {"limits": {"cpu": 1, "memory": 1}}, "requests.cpu: is required"),
    "no limits": (("containers", 0, "resources"), {"requests": {"cpu": 1, "memory": 1}}, "limits.memory: is required"),
    "secret in clear": (
        ("containers", 0, "env"), [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}], "a secret in clear",
    ),
    "token in clear": (("containers", 0, "env"), [{"name": "RAY_AUTH_TOKEN", "value": "x"}], "a secret in clear"),
    "token of Kubernetes": (("automountServiceAccountToken",), True, "automountServiceAccountToken: must be false"),
    "no word on the token": (("automountServiceAccountToken",), None, "automountServiceAccountToken: must be false"),
}  # fmt: skip


@pytest.mark.parametrize("breach", BREACHES)
@pytest.mark.parametrize("pod", [head, worker, submitter])
def test_each_breach_is_named_in_each_pod(job: Object, pod: Callable[[Object], Object], breach: str):
    path, value, said = BREACHES[breach]
    put(pod(job), *path, value=value)
    problems = problems_of(job)
    place = {"head": "headGroupSpec", "worker": "workerGroupSpecs[0]", "submitter": "submitterPodTemplate"}[
        pod.__name__
    ]
    assert any(said in each and place in each for each in problems), problems
    assert all(place in each for each in problems)


def test_an_init_container_is_held_to_the_same(job: Object):
    worker(job)["initContainers"] = [{"name": "wait", "image": "busybox"}]
    problems = problems_of(job)
    assert all("workerGroupSpecs[0].template.spec.initContainers[0]" in each for each in problems)
    assert len(problems) >= 8


def test_the_container_that_autoscaling_adds_is_held_to_the_same(job: Object):
    cluster = job["spec"]["rayClusterSpec"]
    cluster["enableInTreeAutoscaling"] = True
    found = problems_of(job)
    assert any("headGroupSpec.template.spec.containers[1].securityContext" in each for each in found)
    assert any("headGroupSpec.template.spec.containers[1].resources" in each for each in found)
    # The head may then have a token, a worker may not.
    head(job)["automountServiceAccountToken"] = worker(job)["automountServiceAccountToken"] = True
    tokens = [each for each in problems_of(job) if "automountServiceAccountToken" in each]
    assert [each.split(".template")[0] for each in tokens] == ["spec.rayClusterSpec.workerGroupSpecs[0]"]


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN RSA PRIVATE KEY-----",
        "s3://key:secret@bucket/path",
        "ghp_" + "a1B2" * 9,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.x",
    ],
)
def test_secrets_are_found_wherever_they_stand(job: Object, text: str):
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"job.toml": f"a = '{text}'"},
    }
    assert problems_of(config_map) == ["data.job.toml: looks like a secret in clear"]
    assert "secret in clear" in " ".join(problems_of({**job, "metadata": {"annotations": {"note": text}}}))


def test_a_secret_with_content_is_refused_and_one_without_is_not():
    secret: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
    assert problems_of(secret) == []
    for field in ("data", "stringData"):
        assert "a Secret with its content" in problems_of({**secret, field: {"key": "dmFsdWU="}})[0]


def test_a_reference_to_a_secret_is_no_secret(job: Object):
    reference = {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "store", "key": "key"}}}
    head(job)["containers"][0]["env"].append(reference)
    assert problems_of(job) == []


@pytest.mark.parametrize("kind", ["Pod", "Deployment", "Job", "CronJob", "RayCluster"])
def test_pods_are_found_in_other_kinds_too(job: Object, kind: str):
    template = {"metadata": {}, "spec": copy.deepcopy(submitter(job))}
    put(template["spec"], *CONTEXT, "privileged", value=True)
    spec: Object = {
        "Pod": template["spec"],
        "CronJob": {"jobTemplate": {"spec": {"template": template}}},
        "RayCluster": {"headGroupSpec": {"template": template}},
    }.get(kind, {"template": template})
    assert any("privileged" in each for each in problems_of({"kind": kind, "spec": spec}))
