"""A pod without a cluster: its user, capabilities, volumes and read-only root, in namespaces of Linux."""

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]


@dataclass(frozen=True)
class Pod:
    """What runs in a pod, and as what."""

    spec: dict[str, Any]
    """Of the manifest: its container's security context and volumes hold."""
    environment: dict[str, str]
    job: str
    """The text of /etc/resnet-dist/job.toml."""
    inside: str
    """A script of bash that runs in the pod."""
    image: Path | None = None
    """The root of an image's files, into which mount points and the script are written. By default the pod has this
    machine's programs, this Python's packages and this checkout."""
    working: Path = ROOT
    """The working directory."""
    storage: Path | None = None
    """What is mounted at /storage; by default 1 GiB of memory."""


def can_make_namespaces() -> bool:
    tools = ("unshare", "setpriv", "ip", "chroot")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        return False
    return subprocess.run([*NAMESPACES, "mount", "--make-rprivate", "/"], capture_output=True).returncode == 0


def run_pod(folder: Path, pod: Pod, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a pod to its end. `folder` gets its files; the mounts and processes end with the namespaces."""
    (folder / "job.toml").write_text(pod.job)
    (folder / "inside.sh").write_text(pod.inside)
    (folder / "root").mkdir()
    command = [*NAMESPACES, "bash", "-c", _script(folder, pod)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)


def _script(folder: Path, pod: Pod) -> str:
    """Makes the pod's view of the machine below folder/root and runs the pod's script there as its user."""
    (container,) = pod.spec["containers"]
    context = pod.spec["securityContext"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    user, group, root = context["runAsUser"], context["runAsGroup"], folder / "root"
    kept = shlex.join(f"{key}={value}" for key, value in pod.environment.items())
    lines = ["set -eu", "ip link set lo up", "mount --make-rprivate /"]
    lines += _machine_root(root) if pod.image is None else _image_root(root, pod.image)
    lines += [f"mkdir -p {root}/etc/resnet-dist", f"cp {folder}/job.toml {root}/etc/resnet-dist/"]
    lines += [f"cp {folder}/inside.sh {root}/inside.sh", f"mount -t proc proc {root}/proc"]
    lines += _volumes(root, pod, f"uid={user},gid={group},mode=1777")
    if pod.image is None:
        # After the volumes: a checkout may lie below /tmp.
        lines += _bind(root, {ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()})
    lines += [
        f"mount -o remount,bind,ro {root}",
        f"exec chroot {root} setpriv --reuid={user} --regid={group} --clear-groups --no-new-privs "
        f"--bounding-set=-all --inh-caps=-all env -i {kept} bash -c 'cd {pod.working} && exec bash /inside.sh'",
    ]
    return "\n".join(lines)


def _machine_root(root: Path) -> list[str]:
    return [
        f"mount -t tmpfs -o mode=755 tmpfs {root}",
        *_bind(root, {Path("/usr"), Path("/dev"), Path("/sys")}),
        f"cp -d /bin /sbin /lib /lib64 {root}/",
        f"cp -a /etc {root}/etc",
        f"mkdir {root}/proc {root}/opt",
    ]


def _image_root(root: Path, image: Path) -> list[str]:
    return [f"mount --bind {image} {root}", *_bind(root, {Path("/dev"), Path("/sys")})]


def _volumes(root: Path, pod: Pod, options: str) -> list[str]:
    (container,) = pod.spec["containers"]
    sizes = {each["name"]: each.get("emptyDir", {}).get("sizeLimit") for each in pod.spec["volumes"]}
    lines: list[str] = []
    for mount in container["volumeMounts"]:
        if not mount.get("readOnly"):
            size = (sizes[mount["name"]] or "1Gi").removesuffix("i").lower()
            lines += _memory(root / mount["mountPath"][1:], f"size={size},{options}")
    if pod.storage is None:
        return [*lines, *_memory(root / "storage", f"size=1g,{options}")]
    return [*lines, f"mkdir -p {root}/storage", f"mount --bind {pod.storage} {root}/storage"]


def _memory(place: Path, options: str) -> list[str]:
    return [f"mkdir -p {place}", f"mount -t tmpfs -o {options} tmpfs {place}"]


def _bind(root: Path, trees: set[Path]) -> list[str]:
    paths = sorted(map(str, trees))
    return [line for path in paths for line in (f"mkdir -p {root}{path}", f"mount --rbind {path} {root}{path}")]
