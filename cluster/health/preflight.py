"""What a machine must have before a job may start. Each check says what it found and what to do about it."""

import importlib
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple, cast

from packaging.requirements import Requirement

from cluster.errors import StorageError
from cluster.session.openmp import BOUNDED_SPINNING, WAIT_POLICY, bounded_spinning
from cluster.storage.room import existing_folder

_DISTRIBUTION = "resnet-dist"
_OLDEST_PYTHON = (3, 11)
_GIB = 1024**3
_LITTLE_MEMORY_GIB = 4.0
_LITTLE_DISK_GIB = 10.0
_NO_DISK_GIB = 1.0
_LITTLE_SHARED_MEMORY_GIB = 1.0
_MOST_NAMED = 4
_ENDLESS = {"active", "infinite", "infinity"}
"""Values with which OpenMP's threads spin as long as they wait."""


Status = Literal["ok", "warning", "error"]
"""An error stops jobs, a warning may."""


@dataclass(frozen=True)
class Check:
    """One property of a machine, as found."""

    name: str
    status: Status
    found: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""


class NodeCheck(NamedTuple):
    """A check of one node of a cluster, or of all of them together."""

    node: str
    """Empty: all nodes together."""
    check: Check


def some(texts: Sequence[str], most: int = _MOST_NAMED) -> str:
    """A few of the texts, and how many more there are."""
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def check_python() -> Check:
    """The version of Python."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] < _OLDEST_PYTHON:
        return Check("python", "error", found, "use Python 3.11 or newer")
    return Check("python", "ok", found)


def check_packages(extras: tuple[str, ...] = ("train",)) -> list[Check]:
    """Installed versions against those that this distribution and its `extras` require: a check for each wrong one, one
    for all that are absent, one if all fit."""
    wanted = [Requirement(text) for text in requires(_DISTRIBUTION) or ()]
    wanted = [
        each for each in wanted if each.marker is None or any(each.marker.evaluate({"extra": e}) for e in ("", *extras))
    ]
    absent = [f"{each.name}{each.specifier}" for each in wanted if _version_of(each) is None]
    problems = [problem for each in wanted if (problem := _wrong_version(each)) is not None]
    if absent:
        remedy = f"pip install '{_DISTRIBUTION}[{','.join(extras)}]'"
        problems.append(Check("packages", "error", f"{len(absent)} absent: {some(absent)}", remedy))
    return problems or [Check("packages", "ok", f"{len(wanted)} of {len(wanted)} as required")]


def check_cpus(cores: int) -> Check:
    """CPU cores that this process may use."""
    if cores < 2:
        return Check("CPU cores", "warning", f"{cores}", "expect slow training; decoding and training share one core")
    return Check("CPU cores", "ok", f"{cores}")


def check_waiting_threads(environment: Mapping[str, str] = os.environ) -> Check:
    """How long OpenMP's threads spin before they sleep, in processes that start with this environment."""
    effective = {**environment, **bounded_spinning(environment)}
    names = [WAIT_POLICY] if WAIT_POLICY in effective else list(BOUNDED_SPINNING)
    found = ", ".join(f"{name}={effective[name]}" for name in names)
    if any(effective[name].strip().lower() in _ENDLESS for name in names):
        remedy = f"unset {' and '.join(names)}: a thread that spins while it waits starves other processes on its core"
        return Check("waiting threads", "warning", found, remedy)
    return Check("waiting threads", "ok", found)


def check_memory() -> Check:
    """Memory that is free for new work."""
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB available"
    if memory.available < _LITTLE_MEMORY_GIB * _GIB:
        return Check("memory", "warning", found, f"end other programs: below {_LITTLE_MEMORY_GIB:g} GiB a job may die")
    return Check("memory", "ok", found)


def check_disk(
    root: str,
    name: str = "disk",
    remedy: str = "free space, keep fewer checkpoints, or choose another --storage.root",
) -> Check:
    """Free space where `root` is or will be; the limit of a URI is unknown."""
    if "://" in root:
        return Check(name, "ok", f"{root}: object storage")
    folder = existing_folder(root)
    free = shutil.disk_usage(folder).free / _GIB
    found = f"{free:.1f} GiB free at {folder}"
    if free < _LITTLE_DISK_GIB:
        return Check(name, "error" if free < _NO_DISK_GIB else "warning", found, remedy)
    return Check(name, "ok", found)


def check_shared_memory() -> Check:
    """Shared memory holds Ray's objects and NCCL's traffic between the GPUs of a node; Docker gives 64 MiB of it."""
    folder, name = Path("/dev/shm"), "shared memory"  # noqa: S108 - only looked at
    remedy = "mount a memory-backed emptyDir at /dev/shm, or give docker run --shm-size 8g: NCCL and Ray need it"
    if not folder.is_dir():
        return Check(name, "warning", "no /dev/shm", remedy)
    usage = shutil.disk_usage(folder)
    found = f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB free at /dev/shm"
    if usage.free < _LITTLE_SHARED_MEMORY_GIB * _GIB:
        return Check(name, "warning", found, remedy)
    return Check(name, "ok", found)


def check_gpus_in_ray(in_ray: int, driver_gpus: int) -> list[Check]:
    """Whether Ray offers all GPUs of a node that the driver shows; no check if it does."""
    if in_ray == driver_gpus:
        return []
    found = f"Ray offers {in_ray}, the driver shows {driver_gpus}"
    remedy = "ask for nvidia.com/gpu in the pod's limits, or start Ray there with another --num-gpus"
    return [Check("GPUs in Ray", "warning" if in_ray < driver_gpus else "error", found, remedy)]


def check_driver(gpus: int, file: Path = Path("/proc/driver/nvidia/version")) -> Check:
    """The NVIDIA driver's version, and the CUDA version of this torch."""
    import torch

    cuda = f"torch for CUDA {torch.version.cuda}" if torch.version.cuda else "torch without CUDA"
    try:
        found = re.search(r"\s(\d+\.\d+[.\d]*)\s", file.read_text())
    except OSError:
        found = None
    if found is None and gpus:
        return Check("GPU driver", "warning", f"not named in {file}; {cuda}", "run nvidia-smi")
    return Check("GPU driver", "ok", f"{found[1]}; {cuda}" if found else f"none; {cuda}")


def check_storage(root: str) -> Check:
    """Whether files can be written, read back and removed at the storage root; leaves nothing behind."""
    remedy = "grant access or choose another --storage.root"
    try:
        if "://" in root:
            _write_to_uri(root)
        else:
            with tempfile.TemporaryFile(dir=existing_folder(root)) as file:
                file.write(b"doctor")
    except (OSError, StorageError) as error:
        return Check("storage root", "error", str(error), remedy)
    where = root if "://" in root or Path(root).is_dir() else f"{root} can be created"
    return Check("storage root", "ok", f"{where}: writable")


def check_ray() -> Check:
    """Whether Ray can be imported; starts none."""
    try:
        return Check("ray", "ok", str(importlib.import_module("ray").__version__))
    except ImportError as error:
        return Check("ray", "error", str(error), f"pip install '{_DISTRIBUTION}[train]'")


def check_gpus(driver_gpus: int, wanted: bool | None) -> Check:
    """GPUs that the driver shows against GPUs that torch can use. `wanted`: as `cluster.use_gpu`."""
    import torch

    usable = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if usable == 0 and driver_gpus:
        found = f"the driver shows {driver_gpus}, but torch {torch.__version__} can use none"
        return Check("GPUs", "error", found, "install a driver that fits torch's CUDA, or set cluster.use_gpu=false")
    if usable == 0 and wanted:
        return Check("GPUs", "error", "none", "cluster.use_gpu=true needs one; use cluster.use_gpu=false")
    if usable == 0:
        return Check("GPUs", "ok", "none; training runs on CPUs")
    names = ", ".join(torch.cuda.get_device_name(number) for number in range(usable))
    return Check("GPUs", "ok", f"{usable}: {names}")


def check_nccl(gpus: int) -> Check:
    """NCCL, which carries gradients between GPUs."""
    import torch.cuda.nccl
    import torch.distributed

    if torch.distributed.is_nccl_available():
        found = cast("tuple[int, ...]", torch.cuda.nccl.version())
        return Check("NCCL", "ok", ".".join(str(part) for part in found))
    if gpus:
        return Check("NCCL", "error", "absent from this torch", "install torch built with CUDA")
    return Check("NCCL", "ok", "absent, and not needed without GPUs")


def _version_of(wanted: Requirement) -> str | None:
    try:
        return version(wanted.name)
    except PackageNotFoundError:
        return None


def _wrong_version(wanted: Requirement) -> Check | None:
    found = _version_of(wanted)
    if found is None or wanted.specifier.contains(found, prereleases=True):
        return None
    remedy = f"pip install '{wanted.name}{wanted.specifier}'"
    return Check(wanted.name, "error", f"{found}, not {wanted.specifier}", remedy)


def _write_to_uri(root: str) -> None:
    from cluster.storage.store import Store

    store, name = Store.open(root), f".doctor-{secrets.token_hex(4)}"
    store.write(name, b"doctor")
    if store.read(name) != b"doctor":
        raise StorageError(f"{root} returns other bytes than were written")
    store.delete(name)
