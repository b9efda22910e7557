"""Which process on which host: enough to tell from afar that it has ended."""

import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from later ones with the same pid by when it started."""

    host: str
    boot_id: str
    pid: int
    started: float
    """Seconds since the epoch, as the kernel counts."""

    @classmethod
    def current(cls) -> Self:
        """This process."""
        process = psutil.Process()
        return cls(socket.gethostname(), _boot_id(), process.pid, process.create_time())

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From what `to_json` made; raises KeyError, TypeError or ValueError for anything else."""
        return cls(str(value["host"]), str(value["boot_id"]), int(value["pid"]), float(value["started"]))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def is_here(self) -> bool:
        """Whether it runs, or ran, on this host since its last boot."""
        return (self.host, self.boot_id) == (socket.gethostname(), _boot_id())

    def is_dead_here(self) -> bool:
        """Whether it was on this host and has ended; False where that cannot be seen from here."""
        if not self.is_here():
            return False
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1.0
            return not same or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else str(psutil.boot_time())
