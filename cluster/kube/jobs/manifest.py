"""A job as Kubernetes objects: the complete RayJob that ships in k8s/jobs with what this job says set in it.

Nothing is templated: every field that is set here is there already, with its reason beside it in the manifest.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.gpu_resource import WHOLE_GPU
from cluster.jobs import HELD_GPUS, JOB_FILE, SEARCH_FILE, HeldGpus, JobRequest, entrypoint, environment
from cluster.kube.client.kinds import CONFIG_MAP, RAY_JOB, Object
from cluster.kube.jobs.sizing import PodSizes
from cluster.kube.jobs.states import (
    CONTENT,
    IDENTITY,
    JOB_LABEL,
    NAME_LABEL,
    PRIORITY_LABEL,
    QUEUE_LABEL,
    RUN,
    SUBMISSION,
    VERB,
)
from cluster.kube.manifests import load_job

FOLDER = "/etc/resnet-dist"
"""Where a pod of the head sees the ConfigMap."""
MOUNT = "/storage"
"""Where the pods of a job whose storage or data are no URI see their namespace's shared claim."""
CLAIM = SECRET = "resnet-dist-storage"  # noqa: S105 - the name of one
"""The claim and the Secret that jobs use where a team's queue names no others."""
_HEAD, _WORKER, _SUBMITTER = "ray-head", "ray-worker", "ray-job-submitter"


@dataclass(frozen=True)
class Placement:
    """Where and how large a job runs, besides what it does."""

    namespace: str
    sizes: PodSizes
    use_gpu: bool
    image: str | None = None
    """None: the one that the manifest names, for GPUs or for CPUs."""
    queue: str | None = None
    """A LocalQueue of the namespace; None: without Kueue."""
    priority: str | None = None
    """A WorkloadPriorityClass."""
    mounts_claim: bool = False
    """Whether its storage or its data are in the namespace's shared claim."""
    claim: str = CLAIM
    """That claim."""
    secret: str = SECRET
    """The Secret with the keys of an object store, in every container's environment if it is there."""


@dataclass(frozen=True)
class JobManifest:
    """The objects of a job, complete."""

    ray_job: Object
    config_map: Object

    def owned_by(self, ray_job: Object) -> Object:
        """The ConfigMap as the property of the RayJob that the cluster holds, so that they end together."""
        owned = copy.deepcopy(self.config_map)
        meta = ray_job["metadata"]
        owner = {"apiVersion": RAY_JOB.api_version, "kind": RAY_JOB.name, "name": meta["name"], "uid": meta["uid"]}
        owned["metadata"]["ownerReferences"] = [owner]
        return owned


def render_job(request: JobRequest, placement: Placement) -> JobManifest:
    """The objects of a job."""
    objects = {each["kind"]: each for each in load_job(request.verb)}
    ray_job, config_map = objects[RAY_JOB.name], objects[CONFIG_MAP.name]
    labels = {NAME_LABEL: "resnet-dist", VERB: request.verb, JOB_LABEL: request.name}
    for each in (ray_job, config_map):
        meta = each["metadata"]
        meta["name"], meta["namespace"] = request.name, placement.namespace
        meta["labels"] = {**meta.get("labels", {}), **labels}
    config_map["data"] = {JOB_FILE: request.job_toml}
    if request.search_toml is not None:
        config_map["data"][SEARCH_FILE] = request.search_toml
    meta = ray_job["metadata"]
    meta["annotations"] = {
        **meta.get("annotations", {}),
        IDENTITY: request.identity,
        CONTENT: request.content,
        SUBMISSION: request.submission,
        RUN: request.run,
    }
    for label, value in ((QUEUE_LABEL, placement.queue), (PRIORITY_LABEL, placement.priority)):
        meta["labels"].pop(label, None)
        if value is not None:
            meta["labels"][label] = value
    spec = ray_job["spec"]
    spec["entrypoint"] = entrypoint(request, FOLDER)
    _cluster(spec["rayClusterSpec"], request, placement, labels)
    submitter = spec["submitterPodTemplate"]
    _label(submitter, labels)
    _image(_container(submitter, _SUBMITTER), placement)
    return JobManifest(ray_job, config_map)


def _cluster(cluster: Object, request: JobRequest, placement: Placement, labels: Mapping[str, str]) -> None:
    sizes = placement.sizes
    head = cluster["headGroupSpec"]
    _label(head["template"], labels)
    _image(_container(head["template"], _HEAD), placement)
    _resources(_container(head["template"], _HEAD), sizes.head_cpus, sizes.head_memory_mib, {})
    _memory(head, sizes)
    _environment(_container(head["template"], _HEAD), {**environment(request), **_held_gpus(request, placement)})
    _volume(head["template"], "job", {"configMap": {"name": request.name}})
    _storage(head["template"], _HEAD, placement)
    groups: list[Object] = cluster.get("workerGroupSpecs") or []
    if sizes.pods == 0:
        cluster["workerGroupSpecs"] = []
        return
    (workers,) = groups
    workers["replicas"] = workers["minReplicas"] = workers["maxReplicas"] = sizes.pods
    template = workers["template"]
    _label(template, labels)
    container = _container(template, _WORKER)
    _image(container, placement)
    _resources(container, sizes.cpus, sizes.memory_mib, {sizes.gpu_resource: sizes.gpus} if sizes.gpus else {})
    if sizes.gpus and sizes.gpu_resource != WHOLE_GPU:
        # KubeRay counts names that end in "gpu" and plain MIG profiles, but not gpu.shared and not mig-1g.10gb.me.
        workers["rayStartParams"]["num-gpus"] = str(sizes.gpus)
    _memory(workers, sizes)
    _storage(template, _WORKER, placement)
    if not placement.use_gpu:
        template["spec"].pop("tolerations", None)


def _held_gpus(request: JobRequest, placement: Placement) -> dict[str, str]:
    """What the driver records of the GPUs that it uses: the job's objects may be deleted, its run stays."""
    sizes = placement.sizes
    devices = sizes.pods * sizes.gpus
    if placement.queue is None or not devices:
        return {}
    held = HeldGpus(placement.namespace, placement.queue, request.name, sizes.gpu_resource, devices)
    return {HELD_GPUS: held.to_json()}


def _container(template: Object, name: str) -> Object:
    return next(each for each in template["spec"]["containers"] if each["name"] == name)


def _label(template: Object, labels: Mapping[str, str]) -> None:
    meta = template.setdefault("metadata", {})
    meta["labels"] = {**meta.get("labels", {}), **labels}


def _image(container: Object, placement: Placement) -> None:
    shipped: str = container["image"]
    # The manifests name the image for GPUs; that for CPUs differs by the last word of its tag.
    ours = shipped if placement.use_gpu else shipped.removesuffix("-gpu").removesuffix("-cpu") + "-cpu"
    container["image"] = placement.image or ours
    _environment(container, {"RESNET_DIST_IMAGE": container["image"]})


def _resources(container: Object, cpus: int, memory_mib: int, gpus: Mapping[str, int]) -> None:
    """Requests are limits: nothing of a job is to be taken from another one, or by it. `gpus`: counts by resource."""
    sizes = {"cpu": str(cpus), "memory": f"{memory_mib}Mi", **{name: str(count) for name, count in gpus.items()}}
    kept = {
        each: value
        for each, value in container.get("resources", {}).get("requests", {}).items()
        if each not in {"cpu", "memory", WHOLE_GPU}
    }
    container["resources"] = {"requests": {**kept, **sizes}, "limits": {**kept, **sizes}}


def _memory(group: Object, sizes: PodSizes) -> None:
    """Ray's object store lies in shared memory, which is a volume and counts as the container's memory."""
    group["rayStartParams"]["object-store-memory"] = str(sizes.object_store_mib * 2**20)
    _volume(group["template"], "shm", {"emptyDir": {"medium": "Memory", "sizeLimit": f"{sizes.shared_memory_mib}Mi"}})


def _volume(template: Object, name: str, source: Mapping[str, Any]) -> None:
    volumes: list[Object] = template["spec"]["volumes"]
    place = next(index for index, each in enumerate(volumes) if each["name"] == name)
    volumes[place] = {"name": name, **source}


def _storage(template: Object, container: str, placement: Placement) -> None:
    for source in _container(template, container)["envFrom"]:
        source["secretRef"]["name"] = placement.secret
    if not placement.mounts_claim:
        return
    volume = {"name": "storage", "persistentVolumeClaim": {"claimName": placement.claim}}
    template["spec"]["volumes"] = [*(each for each in template["spec"]["volumes"] if each["name"] != "storage"), volume]
    mounts = _container(template, container)["volumeMounts"]
    mounts[:] = [*(each for each in mounts if each["name"] != "storage"), {"name": "storage", "mountPath": MOUNT}]


def _environment(container: Object, values: Mapping[str, str]) -> None:
    kept = [each for each in container.get("env", []) if each["name"] not in values]
    container["env"] = kept + [{"name": name, "value": value} for name, value in values.items()]
