"""Which process on which host: enough to tell from afar that it has ended."""

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STAT = "/proc/{pid}/stat"
_PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process; its start time distinguishes it from later processes with the same pid."""

    host: str
    boot_id: str
    pid_namespace: str
    """Containers of one host may share its name, and each has its own pid 1."""
    pid: int
    started: float
    """As the kernel counts: clock ticks since boot on Linux, which setting the clock does not change."""

    @classmethod
    def current(cls) -> Self:
        """This process."""
        pid = os.getpid()
        return cls(*_here(), pid, _started(pid))

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From what `to_json` made; raises KeyError, TypeError or ValueError for anything else."""
        place = str(value["host"]), str(value["boot_id"]), str(value["pid_namespace"])
        return cls(*place, int(value["pid"]), float(value["started"]))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def is_here(self) -> bool:
        """Whether it runs, or ran, on this host since its last boot, where this process can see it."""
        return (self.host, self.boot_id, self.pid_namespace) == _here()

    def is_alive_here(self) -> bool:
        """Whether it is on this host and can be seen to run; False for one that is stopped, too."""
        if not self.is_here() or self.is_dead_here():
            return False
        try:
            return psutil.Process(self.pid).status() not in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        except (psutil.Error, OSError):
            return False

    def is_dead_here(self) -> bool:
        """Whether it was on this host and has ended; False where that cannot be seen from here."""
        if not self.is_here():
            return False
        if not psutil.pid_exists(self.pid):
            return True
        try:
            return _started(self.pid) != self.started or psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return False  # hidden from this user, or ending right now: the next look tells


def _here() -> tuple[str, str, str]:
    boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else str(psutil.boot_time())
    return socket.gethostname(), boot_id, str(_PID_NAMESPACE.readlink()) if _PID_NAMESPACE.is_symlink() else ""


def _started(pid: int) -> float:
    stat = Path(_STAT.format(pid=pid))
    if not stat.exists():
        return psutil.Process(pid).create_time()
    # The name, in parentheses, may hold anything; what follows it does not. Field 22 is the start.
    return float(stat.read_text().rpartition(")")[2].split()[19])
