"""What no object of ours may do: the restricted Pod Security Standard, and rules of our own on images, resources,
root filesystems, tokens and secrets."""

import re
from collections.abc import Iterator
from typing import Any

from tests.manifests.pods import containers, pod_templates, ray_cluster

Object = dict[str, Any]

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SELINUX = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SECRET_NAME = re.compile(r"(SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|PRIVATE|ACCESS_KEY|API_KEY)", re.IGNORECASE)
SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}|\bxox[abp]-[A-Za-z0-9-]{10,}"
    r"|://[^/\s:@]+:[^/\s@]+@|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\."
)
"""Keys of clouds and forges, passwords in URLs, JSON web tokens."""


def problems_of(object_: Object) -> list[str]:
    """What the policy refuses in an object, each with the place in it."""
    problems = list(_secrets(object_))
    for path, template in pod_templates(object_):
        prefix = f"{path}." if path else ""
        problems += [f"{prefix}{each}" for each in _pod(template)]
        if _has_token(template) and not _speaks_to_kubernetes(object_, path):
            problems.append(f"{prefix}spec.automountServiceAccountToken: must be false; nothing in it needs a token")
    return problems


def _pod(template: Object) -> Iterator[str]:
    spec = _dict(template, "spec")
    context = _dict(spec, "securityContext")
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"spec.{field}: must not be set (baseline)"
    for at, volume in enumerate(spec.get("volumes") or []):
        kinds = volume.keys() - {"name"}
        yield from (f"spec.volumes[{at}]: {kind} is not allowed (restricted)" for kind in sorted(kinds - VOLUMES))
        if "emptyDir" in volume and not _dict(volume, "emptyDir").get("sizeLimit"):
            yield f"spec.volumes[{at}].emptyDir.sizeLimit: is required, or it fills the node"
    for sysctl in context.get("sysctls") or []:
        if sysctl.get("name") not in SYSCTLS:
            yield f"spec.securityContext.sysctls: {sysctl.get('name')} is not allowed (baseline)"
    yield from (f"spec.securityContext.{each}" for each in _context(context))
    for path, container in containers(template):
        yield from (f"{path}.{each}" for each in _container(container, context))


def _container(container: Object, of_pod: Object) -> Iterator[str]:
    context = _dict(container, "securityContext")
    yield from (f"securityContext.{each}" for each in _context(context))
    if context.get("privileged"):
        yield "securityContext.privileged: must not be set (baseline)"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "securityContext.allowPrivilegeEscalation: must be false (restricted)"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "securityContext.readOnlyRootFilesystem: must be true"
    if context.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True:
        yield "securityContext.runAsNonRoot: must be true, here or for the pod (restricted)"
    profile = _dict(context, "seccompProfile") or _dict(of_pod, "seccompProfile")
    if profile.get("type") not in ("RuntimeDefault", "Localhost"):
        yield "securityContext.seccompProfile.type: must be RuntimeDefault or Localhost (restricted)"
    capabilities = _dict(context, "capabilities")
    if "ALL" not in (capabilities.get("drop") or []):
        yield "securityContext.capabilities.drop: must have ALL (restricted)"
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield "securityContext.capabilities.add: only NET_BIND_SERVICE is allowed (restricted)"
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield f"ports: hostPort {port['hostPort']} is not allowed (baseline)"
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        for action in ("httpGet", "tcpSocket"):
            if _dict(_dict(container, probe), action).get("host"):
                yield f"{probe}.{action}.host: must not be set (baseline)"
    yield from _image(str(container.get("image") or ""))
    yield from _resources(_dict(container, "resources"))
    for variable in container.get("env") or []:
        if SECRET_NAME.search(str(variable.get("name"))) and variable.get("value"):
            yield f"env {variable['name']}: a secret in clear; use valueFrom.secretKeyRef"


def _context(context: Object) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield "runAsUser: must not be 0 (restricted)"
    if context.get("runAsNonRoot") is False:
        yield "runAsNonRoot: must not be false (restricted)"
    if context.get("procMount") not in (None, "Default"):
        yield "procMount: must be Default (baseline)"
    if _dict(context, "windowsOptions").get("hostProcess"):
        yield "windowsOptions.hostProcess: must not be set (baseline)"
    if _dict(context, "appArmorProfile").get("type") not in (None, "RuntimeDefault", "Localhost"):
        yield "appArmorProfile.type: must be RuntimeDefault or Localhost (baseline)"
    if _dict(context, "seccompProfile").get("type") == "Unconfined":
        yield "seccompProfile.type: must not be Unconfined (baseline)"
    linux = _dict(context, "seLinuxOptions")
    if linux.get("type") not in SELINUX or linux.get("user") or linux.get("role"):
        yield "seLinuxOptions: no user, no role, and only types of containers (baseline)"


def _image(image: str) -> Iterator[str]:
    last = image.rpartition("/")[2]
    if "@sha256:" in last:
        return
    tag = last.partition(":")[2]
    if not tag or tag == "latest":
        yield f"image: {image!r} names no version; give a tag other than latest, or a digest"


def _resources(resources: Object) -> Iterator[str]:
    for kind in ("requests", "limits"):
        for name in ("cpu", "memory"):
            if not _dict(resources, kind).get(name):
                yield f"resources.{kind}.{name}: is required"


def _has_token(template: Object) -> bool:
    return _dict(template, "spec").get("automountServiceAccountToken") is not False


def _speaks_to_kubernetes(object_: Object, path: str) -> bool:
    """Only Ray's autoscaler does, in the head."""
    return path.endswith("headGroupSpec.template") and bool(ray_cluster(object_).get("enableInTreeAutoscaling"))


def _secrets(object_: Object) -> Iterator[str]:
    if object_.get("kind") == "Secret" and (object_.get("data") or object_.get("stringData")):
        yield "data: a Secret with its content in a manifest; make it outside and refer to it"
    for path, text in _texts(object_, ""):
        if SECRET_TEXT.search(text):
            yield f"{path}: looks like a secret in clear"


def _texts(tree: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list):
        for at, value in enumerate(tree):
            yield from _texts(value, f"{path}[{at}]")


def _dict(tree: Object, key: str) -> Object:
    value = tree.get(key)
    return value if isinstance(value, dict) else {}
