"""The pods that an object would make."""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]


def pod_templates(object_: Object) -> Iterator[tuple[str, Object]]:
    """Where in the object a pod's template stands, and the template ({metadata, spec})."""
    spec = _dict(object_, "spec")
    match object_.get("kind"):
        case "Pod":
            yield "", object_
        case "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job":
            yield "spec.template", _dict(spec, "template")
        case "CronJob":
            yield "spec.jobTemplate.spec.template", _dict(_dict(_dict(spec, "jobTemplate"), "spec"), "template")
        case "RayCluster":
            yield from _of_cluster("spec", spec)
        case "RayJob":
            if "submitterPodTemplate" in spec:
                yield "spec.submitterPodTemplate", _dict(spec, "submitterPodTemplate")
            yield from _of_cluster("spec.rayClusterSpec", ray_cluster(object_))
        case _:
            return


def ray_cluster(object_: Object) -> Object:
    """The spec of the RayCluster in a RayJob or RayCluster; empty for others."""
    spec = _dict(object_, "spec")
    match object_.get("kind"):
        case "RayJob":
            return _dict(spec, "rayClusterSpec")
        case "RayCluster":
            return spec
        case _:
            return {}


def containers(template: Object) -> Iterator[tuple[str, Object]]:
    """Where in a pod's template its containers stand, and they."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for at, each in enumerate(_dict(template, "spec").get(kind) or []):
            yield f"spec.{kind}[{at}]", each


def _of_cluster(path: str, cluster: Object) -> Iterator[tuple[str, Object]]:
    head = _dict(cluster, "headGroupSpec")
    if head:
        yield f"{path}.headGroupSpec.template", _with_autoscaler(cluster, _dict(head, "template"))
    for at, group in enumerate(cluster.get("workerGroupSpecs") or []):
        yield f"{path}.workerGroupSpecs[{at}].template", _dict(group, "template")


def _with_autoscaler(cluster: Object, head: Object) -> Object:
    """The head's template with the container that KubeRay adds to it for autoscaling."""
    if not cluster.get("enableInTreeAutoscaling"):
        return head
    spec = _dict(head, "spec")
    options = _dict(cluster, "autoscalerOptions")
    image = (spec.get("containers") or [{}])[0].get("image")
    known = ("image", "resources", "securityContext", "env", "envFrom", "volumeMounts")
    autoscaler = {"name": "autoscaler", "image": image} | {key: options[key] for key in known if key in options}
    return {**head, "spec": {**spec, "containers": [*(spec.get("containers") or []), autoscaler]}}


def _dict(tree: Object, key: str) -> Object:
    value = tree.get(key)
    return value if isinstance(value, dict) else {}
