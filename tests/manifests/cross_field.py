"""Rules between fields of RayJobs and RayClusters that no schema states: KubeRay's controller and Kueue refuse what
breaks them only when the object is there already, and some they do not notice at all."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from ray_jobs.submission.pre_stop import MOST_S
from tests.manifests.pods import containers, pod_templates, ray_cluster

Object = dict[str, Any]

QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
ELASTIC = "kueue.x-k8s.io/elastic-job"
MOST_LETTERS = {"RayJob": 47, "RayCluster": 53}
MOST_GROUPS = 6
"""Of workers, with Kueue: a Workload has eight sets of pods, and the head and the submitter are two."""
PRE_STOP = "ray_jobs.submission.pre_stop"
UNITS = {"": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{letter}i": 2 ** (10 * (power + 1)) for power, letter in enumerate("KMGT")
}


def problems_of(object_: Object) -> list[str]:
    """What breaks a rule between fields, in a RayJob or RayCluster; other kinds have none."""
    kind = object_.get("kind")
    if kind not in MOST_LETTERS:
        return []
    problems = [*_name(object_), *_kueue(object_), *_cluster(object_)]
    if kind == "RayJob":
        problems += _job(_dict(object_, "spec"))
    for path, template in pod_templates(object_):
        problems += [f"{path}.{each}" for each in _pod(template)]
    return problems


def quantity(value: Any) -> Decimal:
    """A Kubernetes quantity as a number. Raises ValueError."""
    found = re.fullmatch(r"([0-9.]+)(m|[kMGT]|[KMGT]i)?", str(value))
    if found is None:
        raise ValueError(f"{value!r} is no quantity")
    return Decimal(found[1]) * UNITS[found[2] or ""]


def _name(object_: Object) -> Iterator[str]:
    name, most = str(_dict(object_, "metadata").get("name")), MOST_LETTERS[object_["kind"]]
    if len(name) > most:
        yield f"metadata.name: {len(name)} letters; KubeRay adds to it, at most {most} fit"
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"metadata.name: {name!r} is no DNS label that begins with a letter (RFC 1035)"


def _job(spec: Object) -> Iterator[str]:
    shuts_down, suspended = bool(spec.get("shutdownAfterJobFinishes")), bool(spec.get("suspend"))
    selects = bool(spec.get("clusterSelector"))
    retries = int(spec.get("backoffLimit") or 0)
    mode = spec.get("submissionMode", "K8sJobMode")
    if selects == bool(spec.get("rayClusterSpec")):
        yield "spec: one of rayClusterSpec and clusterSelector must be there, and only one"
    if suspended and not shuts_down:
        yield "spec.suspend: needs shutdownAfterJobFinishes"
    if int(spec.get("ttlSecondsAfterFinished") or 0) > 0 and not shuts_down:
        yield "spec.ttlSecondsAfterFinished: needs shutdownAfterJobFinishes"
    if "deletionRules" in _dict(spec, "deletionStrategy") and (shuts_down or "ttlSecondsAfterFinished" in spec):
        yield "spec.deletionStrategy.deletionRules: exclude shutdownAfterJobFinishes and ttlSecondsAfterFinished"
    if selects and suspended:
        yield "spec.clusterSelector: excludes suspend"
    if selects and retries:
        yield "spec.clusterSelector: excludes backoffLimit, whose retries make new clusters"
    if retries < 0:
        yield "spec.backoffLimit: must not be negative"
    if "activeDeadlineSeconds" in spec and int(spec["activeDeadlineSeconds"]) <= 0:
        yield "spec.activeDeadlineSeconds: must be positive"
    if mode == "InteractiveMode" and retries:
        yield "spec.submissionMode: InteractiveMode excludes backoffLimit"
    if mode != "K8sJobMode" and ("submitterPodTemplate" in spec or "submitterConfig" in spec):
        yield f"spec.submissionMode: {mode} has no pod for submitterPodTemplate and submitterConfig"
    if mode == "K8sJobMode" and "submitterPodTemplate" in spec:
        policy = _dict(_dict(spec, "submitterPodTemplate"), "spec").get("restartPolicy")
        if policy not in ("Never", "OnFailure"):
            yield "spec.submitterPodTemplate.spec.restartPolicy: must be Never or OnFailure, as of every Job's pod"
    if mode == "SidecarMode":
        head = _dict(_dict(_dict(_dict(spec, "rayClusterSpec"), "headGroupSpec"), "template"), "spec")
        if head.get("restartPolicy", "Never") != "Never":
            yield "spec.submissionMode: SidecarMode needs restartPolicy Never for the head"


def _kueue(object_: Object) -> Iterator[str]:
    metadata = _dict(object_, "metadata")
    labels, spec, cluster = _dict(metadata, "labels"), _dict(object_, "spec"), ray_cluster(object_)
    if PRIORITY in labels and QUEUE not in labels:
        yield f"metadata.labels: {PRIORITY} does nothing without {QUEUE}"
    if QUEUE not in labels:
        return
    if cluster.get("enableInTreeAutoscaling") and _dict(metadata, "annotations").get(ELASTIC) != "true":
        yield f"spec: Kueue refuses enableInTreeAutoscaling without the annotation {ELASTIC} and its gate"
    if len(cluster.get("workerGroupSpecs") or []) > MOST_GROUPS:
        yield f"spec: Kueue takes at most {MOST_GROUPS} worker groups"
    if object_["kind"] != "RayJob":
        return
    if not spec.get("shutdownAfterJobFinishes"):
        yield "spec.shutdownAfterJobFinishes: Kueue needs it, or the quota is never free again"
    if "deletionRules" in _dict(spec, "deletionStrategy"):
        yield "spec.deletionStrategy.deletionRules: do not go with Kueue"
    if spec.get("clusterSelector"):
        yield "spec.clusterSelector: such a job is not managed by Kueue"


def _cluster(object_: Object) -> Iterator[str]:
    cluster = ray_cluster(object_)
    head = _dict(cluster, "headGroupSpec")
    if _dict(cluster, "authOptions").get("mode") == "token" and _version(cluster.get("rayVersion")) < (2, 52):
        yield "rayVersion: authOptions.mode token needs 2.52 or newer, stated"
    scales = bool(cluster.get("enableInTreeAutoscaling"))
    is_v2 = _dict(cluster, "autoscalerOptions").get("version") == "v2"
    groups = [("headGroupSpec", head)] if head else []
    groups += [(f"workerGroupSpecs[{at}]", each) for at, each in enumerate(cluster.get("workerGroupSpecs") or [])]
    names = [str(group.get("groupName")) for _, group in groups[1:]]
    yield from (f"workerGroupSpecs: {name} is there twice" for name in {n for n in names if names.count(n) > 1})
    for path, group in groups:
        yield from (f"{path}.{each}" for each in _group(group))
        policy = _dict(_dict(group, "template"), "spec").get("restartPolicy", "Never")
        if scales and is_v2 and policy != "Never":
            yield f"{path}.template.spec.restartPolicy: must be Never with autoscaler v2"
        if scales and group.get("suspend"):
            yield f"{path}.suspend: excludes enableInTreeAutoscaling"
        if path != "headGroupSpec":
            least, most = int(group.get("minReplicas", 0)), int(group.get("maxReplicas", 2**31 - 1))
            if not least <= int(group.get("replicas", least)) <= most:
                yield f"{path}.replicas: must be from minReplicas={least} to maxReplicas={most}"


def _group(group: Object) -> Iterator[str]:
    params = _dict(group, "rayStartParams")
    own = sorted({"num-cpus", "num-gpus", "memory", "resources"} & params.keys())
    if group.get("resources") and own:
        yield f"resources: exclude rayStartParams {', '.join(own)}"
    if "labels" in params:
        yield "rayStartParams.labels: write the group's labels instead"
    yield from (
        f"rayStartParams.{key}: must be a string" for key, value in params.items() if not isinstance(value, str)
    )
    template = _dict(group, "template")
    volumes = {each.get("name"): each for each in _dict(template, "spec").get("volumes") or []}
    ray = next((each for _, each in containers(template)), {})
    mount = next((each for each in ray.get("volumeMounts") or [] if each.get("mountPath") == "/dev/shm"), {})
    shared = _dict(volumes.get(mount.get("name"), {}), "emptyDir")
    if shared.get("medium") != "Memory" or not shared.get("sizeLimit"):
        yield "template.spec.volumes: /dev/shm must be an emptyDir in memory with a sizeLimit"
        return
    size = quantity(shared["sizeLimit"])
    memory = _dict(_dict(ray, "resources"), "limits").get("memory")
    if memory is not None and size > quantity(memory) / 2:
        yield f"template.spec.volumes: /dev/shm of {shared['sizeLimit']} is over half of the memory limit {memory}"
    store = str(params.get("object-store-memory", ""))
    if store.isdecimal() and Decimal(store) >= size:
        yield f"rayStartParams.object-store-memory: {store} bytes do not fit into /dev/shm of {shared['sizeLimit']}"


def _pod(template: Object) -> Iterator[str]:
    spec = _dict(template, "spec")
    volumes = [str(each.get("name")) for each in spec.get("volumes") or []]
    yield from (f"spec.volumes: {name} is there twice" for name in {n for n in volumes if volumes.count(n) > 1})
    for path, container in containers(template):
        mounts = container.get("volumeMounts") or []
        yield from (
            f"{path}.volumeMounts: there is no volume {each.get('name')}" for each in mounts
            if each.get("name") not in volumes
        )  # fmt: skip
        paths = [each.get("mountPath") for each in mounts]
        yield from (f"{path}.volumeMounts: {each} is there twice" for each in {p for p in paths if paths.count(p) > 1})
        resources = _dict(container, "resources")
        requests, limits = _dict(resources, "requests"), _dict(resources, "limits")
        for name in sorted(requests.keys() & limits.keys()):
            if quantity(requests[name]) > quantity(limits[name]):
                yield f"{path}.resources: requests {requests[name]} of {name}, more than its limit {limits[name]}"
        for name in sorted({*requests, *limits}):
            if "/" in name and requests.get(name) != limits.get(name):
                yield f"{path}.resources: {name} must be requested as it is limited"
        command = _dict(_dict(_dict(container, "lifecycle"), "preStop"), "exec").get("command") or []
        grace = int(spec.get("terminationGracePeriodSeconds", 30))
        most = MOST_S if command[-1:] == [PRE_STOP] else float(command[1]) if command[:1] == ["sleep"] else 0.0
        if most >= grace:
            yield f"{path}.lifecycle.preStop: may take {most:g} s of terminationGracePeriodSeconds={grace}"


def _version(text: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", str(text or ""))[:2])


def _dict(tree: Object, key: str) -> Object:
    value = tree.get(key)
    return value if isinstance(value, dict) else {}
