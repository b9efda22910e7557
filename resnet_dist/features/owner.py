"""Which process a file on this machine belongs to, so that others can tell when it has ended."""

import os
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def current_owner() -> str:
    """This process, as text that is part of a file name: pid, when it started, pid namespace and boot."""
    pid = os.getpid()
    return f"{pid}.{_started(pid)}.{_namespace()}.{_boot()}"


def has_ended(owner: str) -> bool:
    """Whether the process that `current_owner` named runs no more, as anything else does not.

    False for a process that cannot be seen from here: containers that share a folder may each have their own pids.
    """
    parts = owner.split(".")
    if len(parts) != 4 or not parts[0].isdecimal() or parts[3] != _boot():
        return True
    pid, started, namespace, _ = parts
    return namespace == _namespace() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process started, as the kernel counts; empty where it has ended, waited for or not."""
    if not _BOOT_ID.exists():
        return _started_elsewhere(pid)
    try:
        # The name, in parentheses, may hold anything; what follows it does not.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _started_elsewhere(pid: int) -> str:
    """The same without Linux's /proc, in microseconds since 1970."""
    try:
        return str(int(psutil.Process(pid).create_time() * 1e6))
    except psutil.NoSuchProcess:
        return ""


def _namespace() -> str:
    return str(_PID_NAMESPACE.stat().st_ino) if _PID_NAMESPACE.exists() else ""


def _boot() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
