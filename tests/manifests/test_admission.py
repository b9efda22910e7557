"""The policy on pods of teams: what `submit` makes is accepted, and each way past it is refused by the rule for it."""

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import pytest
from celpy.evaluation import Evaluator

from cluster.config import ClusterConfig
from cluster.gpu_resource import WHOLE_GPU
from cluster.jobs import JobRequest, Verb
from cluster.kube.jobs.manifest import Placement, render_job
from cluster.kube.jobs.sizing import JobNeeds, driver_only_sizes, pod_sizes
from cluster.kube.manifests import load_job
from cluster.kube.queues.manifest import render_team
from cluster.kube.queues.team import Names, Quota, Storage, Team
from tests.manifests.admission import Admission
from tests.manifests.places import K8S, VERBS, build, jobs, needs_kubectl, read

Object = dict[str, Any]
Path = tuple[str | int, ...]

POLICY = Admission(*read(K8S / "queues" / "admin" / "pod-policy.yaml"))


def namespace_of(storage: Storage) -> Object:
    """A team's namespace as `queue create` makes it."""
    team = Team(team=Names(name="vision"), quota=(Quota(flavor="cpu", cpus=1),), storage=storage)
    (found,) = [each for each in render_team(team).all if each["kind"] == "Namespace"]
    return found


NAMESPACE = namespace_of(Storage(secret="vision-keys"))


@lru_cache
def shipped(verb: Verb) -> Object:
    (found,) = [each for each in load_job(verb) if each["kind"] == "RayJob"]
    return found


def ray_job(verb: Verb = "train") -> Object:
    return copy.deepcopy(shipped(verb))


def ray_cluster_of(job: Object) -> Object:
    """The RayCluster that KubeRay makes of a RayJob."""
    metadata = {"name": "example-abcde", "namespace": "vision"}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": metadata,
        "spec": job["spec"]["rayClusterSpec"],
    }


def head(job: Object) -> Object:
    return job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]


def worker(job: Object) -> Object:
    return job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]


def submitter(job: Object) -> Object:
    return job["spec"]["submitterPodTemplate"]["spec"]


PODS = (head, worker, submitter)
GONE = object()
"""Instead of a value: the field is removed."""


def put(tree: Object, path: Path, value: Any) -> None:
    inner: Any = tree
    for key in path[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(key, str) else inner[key]
    if value is GONE:
        inner.pop(path[-1], None)
    elif path[-1] == "+":
        inner.append(value)
    else:
        inner[path[-1]] = value


CONTAINER = ("containers", 0)
CONTEXT = (*CONTAINER, "securityContext")
LIMITS = (*CONTAINER, "resources", "limits")
VOLUME = ("volumes", "+")


def env(source: Object) -> Object:
    return {"name": "STOLEN", "valueFrom": source}


def projected(source: Object) -> Object:
    return {"name": "stolen", "projected": {"sources": [{"configMap": {"name": "example"}}, source]}}


IN_A_CONTAINER: dict[str, tuple[Path, Any, str]] = {
    "a variable from a Secret": (
        (*CONTAINER, "env", "+"), env({"secretKeyRef": {"name": "ci", "key": "k"}}), "env-secrets",
    ),
    "one that may be missing": (
        (*CONTAINER, "env", "+"), env({"secretKeyRef": {"name": "ci", "key": "k", "optional": True}}), "env-secrets",
    ),
    "one without a name": ((*CONTAINER, "env", "+"), env({"secretKeyRef": {"key": "k"}}), "env-secrets"),
    "all of a Secret": ((*CONTAINER, "envFrom"), [{"secretRef": {"name": "ci"}}], "env-from-secrets"),
    "all of one beside the team's": (
        (*CONTAINER, "envFrom"), [{"secretRef": {"name": "vision-keys"}}, {"prefix": "A", "secretRef": {"name": "ci"}}],
        "env-from-secrets",
    ),
    "a Ray token of another job": (
        (*CONTAINER, "env", "+"), env({"secretKeyRef": {"name": "other-x7f2k", "key": "auth_token"}}), "env-secrets",
    ),
    "a port of the node": ((*CONTAINER, "ports"), [{"containerPort": 8265, "hostPort": 8265}], "host-ports"),
    "privileges": ((*CONTEXT, "privileged"), True, "privileged"),
    "more privileges later": ((*CONTEXT, "allowPrivilegeEscalation"), True, "privileged"),
    "no word on privileges": ((*CONTEXT, "allowPrivilegeEscalation"), GONE, "privileged"),
    "root": ((*CONTEXT, "runAsUser"), 0, "root"),
    "root may be": ((*CONTEXT, "runAsNonRoot"), False, "root"),
    "capabilities kept": ((*CONTEXT, "capabilities", "drop"), ["NET_RAW"], "capabilities"),
    "no word on capabilities": ((*CONTEXT, "capabilities"), GONE, "capabilities"),
    "a capability added": ((*CONTEXT, "capabilities", "add"), ["SYS_ADMIN"], "capabilities"),
    "seccomp off": ((*CONTEXT, "seccompProfile"), {"type": "Unconfined"}, "seccomp"),
    "/proc of the node": ((*CONTEXT, "procMount"), "Unmasked", "confinement"),
    "another SELinux type": ((*CONTEXT, "seLinuxOptions"), {"type": "spc_t"}, "confinement"),
    "AppArmor off": ((*CONTEXT, "appArmorProfile"), {"type": "Unconfined"}, "confinement"),
    "two MIG devices": ((*LIMITS, "nvidia.com/mig-1g.10gb"), "2", "gpu-parts"),
    "two MIG devices as a number": ((*LIMITS, "nvidia.com/mig-1g.10gb"), 2, "gpu-parts"),
    "two slices of a GPU": ((*LIMITS, "nvidia.com/gpu.shared"), "2", "gpu-parts"),
    "MIG devices of two profiles": (
        LIMITS, {"nvidia.com/mig-1g.10gb": "1", "nvidia.com/mig-2g.20gb": "1"}, "gpu-parts",
    ),
    "a MIG device beside a GPU": (LIMITS, {"nvidia.com/mig-1g.10gb": "1", "nvidia.com/gpu": "1"}, "gpu-parts"),
    "a Windows host process": ((*CONTEXT, "windowsOptions"), {"hostProcess": True}, "confinement"),
}  # fmt: skip
IN_A_POD: dict[str, tuple[Path, Any, str]] = {
    "a Secret as a volume": (VOLUME, {"name": "stolen", "secret": {"secretName": "ci"}}, "secret-volumes"),
    "a Secret without a name": (VOLUME, {"name": "stolen", "secret": {}}, "secret-volumes"),
    "a projected Secret": (VOLUME, projected({"secret": {"name": "ci"}}), "secret-volumes"),
    "a projected token": (VOLUME, projected({"serviceAccountToken": {"path": "token"}}), "projected-tokens"),
    "a certificate": (VOLUME, projected({"podCertificate": {"signerName": "a/b"}}), "projected-tokens"),
    "roots of trust": (VOLUME, projected({"clusterTrustBundle": {"name": "a", "path": "b"}}), "projected-tokens"),
    "a Secret of a driver": (VOLUME, {"name": "stolen", "csi": {"driver": "secrets-store.csi.k8s.io"}}, "volumes"),
    "files of the node": (VOLUME, {"name": "node", "hostPath": {"path": "/"}}, "volumes"),
    "files of the node behind another kind": (
        VOLUME, {"name": "node", "emptyDir": {}, "hostPath": {"path": "/"}}, "volumes",
    ),
    "NFS": (VOLUME, {"name": "nfs", "nfs": {"server": "a", "path": "/"}}, "volumes"),
    "a kind of the future": (VOLUME, {"name": "new", "nodeSecrets": {}}, "volumes"),
    "network of the node": (("hostNetwork",), True, "host-namespaces"),
    "processes of the node": (("hostPID",), True, "host-namespaces"),
    "IPC of the node": (("hostIPC",), True, "host-namespaces"),
    "a chosen node": (("nodeName",), "control-plane", "scheduling"),
    "a priority of the system": (("priorityClassName",), "system-node-critical", "scheduling"),
    "another account": (("serviceAccountName",), "default", "service-account"),
    "no account named": (("serviceAccountName",), GONE, "service-account"),
    "another account by its old name": (("serviceAccount",), "deployer", "service-account"),
    "a token of Kubernetes": (("automountServiceAccountToken",), True, "service-account-token"),
    "no word on a token": (("automountServiceAccountToken",), GONE, "service-account-token"),
    "a Secret to pull by": (("imagePullSecrets",), [{"name": "registry"}], "image-pull-secrets"),
    "the team's Secret to pull by": (("imagePullSecrets",), [{"name": "vision-keys"}], "image-pull-secrets"),
    "root for the pod": (("securityContext", "runAsUser"), 0, "root"),
    "root may be, for the pod": (("securityContext", "runAsNonRoot"), False, "root"),
    "no word on root": (("securityContext", "runAsNonRoot"), GONE, "root"),
    "no word on seccomp": (("securityContext", "seccompProfile"), GONE, "seccomp"),
    "seccomp off for the pod": (("securityContext", "seccompProfile"), {"type": "Unconfined"}, "seccomp"),
    "a sysctl": (("securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}], "confinement"),
    "SELinux of the pod": (("securityContext", "seLinuxOptions"), {"level": "s0:c1"}, "confinement"),
    "AppArmor off for the pod": (("securityContext", "appArmorProfile"), {"type": "Unconfined"}, "confinement"),
}  # fmt: skip
REDIS = ("gcsFaultToleranceOptions",)
IN_THE_CLUSTER: dict[str, tuple[Path, Any, str]] = {
    "Redis with another's password": (
        REDIS, {"redisPassword": {"valueFrom": {"secretKeyRef": {"name": "ci", "key": "k"}}}},
        "redis-secrets",
    ),
    "Redis with another's user": (
        REDIS, {"redisUsername": {"valueFrom": {"secretKeyRef": {"name": "ci", "key": "k"}}}}, "redis-secrets",
    ),
    "a Ray token of one's own": (("authOptions", "secretName"), "ci", "auth-secret"),
    "the autoscaler": (("enableInTreeAutoscaling",), True, "autoscaling"),
    "the autoscaler's environment": (("autoscalerOptions", "envFrom"), [{"secretRef": {"name": "ci"}}], "autoscaling"),
    "the history server": (("historyServerOptions", "collectorOptions", "env"), [], "history-server"),
    "a service with an address of another": (
        ("headGroupSpec", "headService"), {"spec": {"externalIPs": ["10.0.0.1"]}}, "exposure",
    ),
    "a port on all nodes": (("headGroupSpec", "serviceType"), "NodePort", "exposure"),
    "a load balancer": (("headGroupSpec", "serviceType"), "LoadBalancer", "exposure"),
    "a name for all": (("headServiceAnnotations",), {"external-dns.alpha.kubernetes.io/hostname": "a"}, "exposure"),
    "an ingress": (("headGroupSpec", "enableIngress"), True, "exposure"),
    "rules of the network": (("networkPolicy", "head", "egressRules"), [{}], "network-rules"),
}  # fmt: skip
IN_THE_JOB: dict[str, tuple[Path, Any, str]] = {
    "KubeRay's own submitter": (("submitterPodTemplate",), GONE, "submitter"),
    "KubeRay's own submitter in the head": (("submissionMode",), "SidecarMode", "submitter"),
    "a way of the future": (("submissionMode",), "OtherMode", "submitter"),
}
ALL = IN_A_CONTAINER | IN_A_POD | IN_THE_CLUSTER | IN_THE_JOB


def refused_by(object_: Object, rule: str | None = None) -> list[str]:
    return POLICY.refusals(object_, NAMESPACE, only=rule)


@pytest.mark.parametrize("breach", IN_A_CONTAINER | IN_A_POD)
def test_each_breach_in_any_pod_is_refused_by_its_rule_alone(breach: str) -> None:
    path, value, rule = ALL[breach]
    for pod in PODS:
        job = ray_job()
        put(pod(job), path, value)
        # All rules for one pod; that no other rule takes offence does not depend on the pod.
        assert refused_by(job, None if pod is head else rule) == [rule]
        if pod is not submitter:
            assert refused_by(ray_cluster_of(job), rule) == [rule]


@pytest.mark.parametrize("breach", IN_A_CONTAINER)
@pytest.mark.parametrize("kind", ["initContainers", "ephemeralContainers"])
def test_containers_of_every_kind_are_held_to_the_same(breach: str, kind: str) -> None:
    path, value, rule = IN_A_CONTAINER[breach]
    job = ray_job()
    worker(job)[kind] = [copy.deepcopy(worker(job)["containers"][0])]
    assert refused_by(job, rule) == []
    put(worker(job), (kind, *path[1:]), value)
    assert refused_by(job, rule) == [rule]


def test_a_second_group_of_workers_is_held_to_the_same() -> None:
    job = ray_job()
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    groups.append(copy.deepcopy(groups[0]))
    put(groups[1]["template"]["spec"], ("hostPID",), True)
    assert refused_by(job) == ["host-namespaces"]


@pytest.mark.parametrize("breach", IN_THE_CLUSTER)
def test_each_breach_of_a_cluster_is_refused_by_its_rule_alone(breach: str) -> None:
    path, value, rule = IN_THE_CLUSTER[breach]
    job = ray_job()
    put(job["spec"]["rayClusterSpec"], path, value)
    assert refused_by(job) == [rule]
    assert refused_by(ray_cluster_of(job), rule) == [rule]


@pytest.mark.parametrize("breach", IN_THE_JOB)
def test_each_breach_of_a_job_is_refused_by_its_rule_alone(breach: str) -> None:
    path, value, rule = IN_THE_JOB[breach]
    job = ray_job()
    put(job["spec"], path, value)
    assert refused_by(job) == [rule]


def test_every_rule_is_broken_by_a_breach() -> None:
    assert {rule for _, _, rule in ALL.values()} == POLICY.rules().keys()
    assert len(ALL) > 60


def test_what_cannot_be_judged_is_refused() -> None:
    job = ray_job()
    del job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    assert set(refused_by(job)) >= {"env-secrets", "root", "volumes", "service-account"}


def rendered(verb: Verb, queue: str | None, claim: bool, gpu_resource: str = WHOLE_GPU) -> Object:
    secret = "vision-keys" if queue else "resnet-dist-storage"
    request = JobRequest(verb, verb, (), "", "[space]\n" if verb == "tune" else None, "0", "1", "s3://b/runs/a", "m")
    sizes = (
        driver_only_sizes()
        if verb == "export"
        else pod_sizes(ClusterConfig(num_workers=4, gpu_resource=gpu_resource), JobNeeds(32, 224, 224), use_gpu=True)
    )
    placement = Placement("vision", sizes, verb != "export", None, queue, None, claim, secret=secret)
    return render_job(request, placement).ray_job


@pytest.mark.parametrize("verb", VERBS)
def test_what_submit_renders_is_accepted(verb: Verb) -> None:
    for queue, claim in (("vision", True), (None, False)):
        job = rendered(verb, queue, claim)
        assert refused_by(job) == []
        assert refused_by(ray_cluster_of(job)) == []
        # A team without a Secret of its own uses the one that jobs name by default.
        assert POLICY.refusals(job, namespace_of(Storage()), only="env-from-secrets") == (
            ["env-from-secrets"] if queue else []
        )


@pytest.mark.parametrize("count", ["1", 1])
def test_a_job_on_mig_devices_is_accepted(count: str | int) -> None:
    job = rendered("train", "vision", False, "nvidia.com/mig-1g.10gb")
    assert worker(job)["containers"][0]["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    put(worker(job), (*LIMITS, "nvidia.com/mig-1g.10gb"), count)
    assert refused_by(job) == []
    assert refused_by(ray_cluster_of(job)) == []


@needs_kubectl
def test_the_jobs_of_a_team_by_kustomize_are_accepted() -> None:
    objects = build(K8S / "overlays" / "team-example")
    (namespace,) = [each for each in objects if each["kind"] == "Namespace"]
    found = jobs(objects)
    assert found.keys() == set(VERBS)
    for job in found.values():
        assert POLICY.concerns(job, namespace)
        assert POLICY.refusals(job, namespace) == []


def kueue_places(job: Object) -> None:
    """As Kueue admits a job to a flavor."""
    job["spec"]["suspend"] = False
    for pod in PODS:
        put(pod(job), ("nodeSelector",), {"nvidia.com/gpu.product": "NVIDIA-L4"})
        put(pod(job), ("tolerations",), [{"key": "nvidia.com/gpu", "operator": "Exists"}])
        put(pod(job), ("schedulingGates",), [{"name": "kueue.x-k8s.io/topology"}])


def contexts_of_containers(job: Object) -> None:
    for pod in PODS:
        context = pod(job).pop("securityContext")
        put(pod(job), (*CONTEXT, "runAsNonRoot"), context["runAsNonRoot"])
        put(pod(job), (*CONTEXT, "seccompProfile"), context["seccompProfile"])


def by_http(job: Object) -> None:
    job["spec"]["submissionMode"] = "HTTPMode"
    del job["spec"]["submitterPodTemplate"]


def on_a_running_cluster(job: Object) -> None:
    job["spec"]["clusterSelector"] = {"ray.io/cluster": "mine"}
    del job["spec"]["rayClusterSpec"]


def each_pod(path: Path, value: Any) -> Callable[[Object], None]:
    def change(job: Object) -> None:
        for pod in PODS:
            put(pod(job), path, value)

    return change


def cluster(path: Path, value: Any) -> Callable[[Object], None]:
    return lambda job: put(job["spec"]["rayClusterSpec"], path, value)


ACCEPTED: dict[str, Sequence[Callable[[Object], None]]] = {
    "the team's own Secret": (
        each_pod((*CONTAINER, "env", "+"), env({"secretKeyRef": {"name": "vision-keys", "key": "k"}})),
        each_pod((*CONTAINER, "envFrom"), [{"secretRef": {"name": "vision-keys", "optional": True}}]),
        each_pod((*CONTAINER, "envFrom", "+"), {"secretRef": {"name": "resnet-dist-storage"}}),
        each_pod(VOLUME, {"name": "keys", "secret": {"secretName": "vision-keys"}}),
        each_pod(VOLUME, projected({"secret": {"name": "vision-keys"}})),
        cluster((*REDIS, "redisPassword"), {"valueFrom": {"secretKeyRef": {"name": "vision-keys", "key": "k"}}}),
    ),
    "what is no secret": (
        each_pod((*CONTAINER, "env", "+"), env({"configMapKeyRef": {"name": "a", "key": "k"}})),
        each_pod((*CONTAINER, "envFrom"), [{"configMapRef": {"name": "a"}}]),
        each_pod((*CONTAINER, "env", "+"), env({"fieldRef": {"fieldPath": "metadata.name"}})),
        each_pod(VOLUME, {"name": "claim", "persistentVolumeClaim": {"claimName": "data"}}),
        each_pod(VOLUME, {"name": "labels", "downwardAPI": {"items": []}}),
        each_pod(("imagePullSecrets",), []),
        cluster((*REDIS, "redisPassword"), {"value": ""}),
    ),
    "a wall around the cluster": (
        cluster(("networkPolicy",), {"mode": "DenyAll"}), cluster(("headGroupSpec", "serviceType"), "ClusterIP"),
    ),
    "what Kueue adds": (kueue_places,),
    "contexts of containers": (contexts_of_containers,),
    "ports below 1024": (each_pod((*CONTEXT, "capabilities", "add"), ["NET_BIND_SERVICE"]),),
    "another user": (each_pod(("securityContext", "runAsUser"), 4000),),
    "without a submitter": (by_http,),
    "a job on a running cluster": (on_a_running_cluster,),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_harms_nobody_is_accepted(name: str) -> None:
    job = ray_job()
    for change in ACCEPTED[name]:
        change(job)
    assert refused_by(job) == []


def test_the_policy_is_asked_about_teams_namespaces_and_new_specs_only() -> None:
    job = ray_job()
    put(head(job), ("hostPID",), True)
    assert refused_by(job) == ["host-namespaces"]
    assert POLICY.refusals(job, {"metadata": {"name": "other", "labels": {"a": "b"}}}) == []
    # Made before the policy was: it must be able to end, and cannot become another one.
    for field in ("finalizers", "annotations"):
        ended = copy.deepcopy(job)
        ended["metadata"][field] = []
        assert POLICY.refusals(ended, NAMESPACE, job) == []
    again = copy.deepcopy(job)
    again["spec"]["suspend"] = True
    assert POLICY.refusals(again, NAMESPACE, job) == ["host-namespaces"]
    assert not POLICY.concerns(again, NAMESPACE, job, "status")
    old = {**job, "apiVersion": "ray.io/v1alpha1"}
    assert POLICY.refusals(old, NAMESPACE) == ["host-namespaces"]


def test_messages_and_expressions_are_what_kubernetes_takes() -> None:
    spec = POLICY.policy["spec"]
    texts = [each["message"] for each in spec["validations"]]
    assert len({text.partition(":")[0] for text in texts}) == len(texts)
    expressions = [each["expression"] for key in ("validations", "variables", "matchConditions") for each in spec[key]]
    assert not any("\n" in each for each in texts + expressions)


def test_the_rules_stay_far_below_the_budget_that_kubernetes_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes gives a rule 10^6 units and all of a policy's rules 10^7; an operation costs a unit or a few.

    Operations are counted here as the interpreter's steps. It takes several of them for an operation.
    """
    job = ray_job()
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    worker(job)["containers"] *= 3
    worker(job)["containers"][0]["env"] *= 10
    groups *= 4
    assert sum(len(each["env"]) for group in groups for each in group["template"]["spec"]["containers"]) > 500
    steps = 0
    visit = Evaluator._visit_tree

    def counted(self: Evaluator, tree: Any) -> Any:
        nonlocal steps
        steps += 1
        return visit(self, tree)

    monkeypatch.setattr(Evaluator, "_visit_tree", counted)
    assert refused_by(job) == []
    assert 50_000 < steps < 1_000_000
