"""The faults: what each does to a running command, and with which exit codes the command may end by it."""

import random
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.chaos.command import Command, StuckError

_STARTED_BY_THEN_S = 100.0
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Of Ray's raylet, which ends when one of them does."""
_PAUSE_S = 3.0
"""How long a process stands still, a folder is away, a disk is full or read-only."""


@dataclass(frozen=True)
class Target:
    """What a fault strikes."""

    command: Command
    run: Path
    """The run's folder, or a trial's."""
    disk: Path | None
    """A file system of its own with the storage on it; None where mounting is not permitted."""
    draw: random.Random


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    name: str
    strike: Callable[[Target], None]
    may_end: tuple[int, ...] = ()
    """Exit codes with which the command may end; the same command is started again. Empty: it must go on by itself."""
    must_end: bool = False
    needs_disk: bool = False


def _kill(name: str, *, but: tuple[str, ...] = ()) -> Callable[[Target], None]:
    def strike(target: Target) -> None:
        _one(target, name, but).kill()

    return strike


def _signal(number: signal.Signals) -> Callable[[Target], None]:
    return lambda target: target.command.signal(number)


def _stop(name: str) -> Callable[[Target], None]:
    def strike(target: Target) -> None:
        process = _one(target, name)
        process.suspend()
        time.sleep(_PAUSE_S)
        process.resume()

    return strike


def _one(target: Target, name: str, but: tuple[str, ...] = ()) -> psutil.Process:
    """One of the processes of that name, which may have to start first: after a kill, dying workers may store one more
    checkpoint, and the next fault is due before there are others."""
    deadline = time.monotonic() + _STARTED_BY_THEN_S
    while not (found := [each for each in target.command.processes(name) if each.name() not in but]):
        if time.monotonic() > deadline:
            raise StuckError(f"there is no process {name}")
        time.sleep(0.1)
    return target.draw.choice(found)


def _damage_checkpoint(target: Target) -> None:
    """One file of the newest checkpoint; then a worker dies, so that it is read."""
    folders = sorted((target.run / "checkpoints").glob("step-*"))
    files = [path for folder in folders[-1:] for path in folder.iterdir()]
    with _stopped(target, "driver"):  # no other file takes its place meanwhile
        if files:
            _damage(target.draw.choice(sorted(files)), target.draw)
    _kill("RayTrainWorker")(target)


def _damage_record(target: Target) -> None:
    """One file of the run beside its checkpoints; then the driver dies, and the next start reads all of them."""
    target.command.signal(signal.SIGKILL)
    target.command.wait_for_end()
    names = ("config.toml", "dataset.json", "preprocess.json", "split.csv", "status.json", "lease.json", "records.json")
    files = [target.run / name for name in names if (target.run / name).exists()]
    _damage(target.draw.choice(files), target.draw)


def _damage(path: Path, draw: random.Random) -> None:
    """Flip a bit, cut it off or delete it."""
    try:
        data = bytearray(path.read_bytes())
    except OSError:
        return  # it was replaced meanwhile
    how = draw.choice(("flip", "cut", "empty", "delete"))
    if how == "delete" or not data:
        path.unlink(missing_ok=True)
        return
    if how == "flip":
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(data if how == "flip" else data[: len(data) // 2] if how == "cut" else b""))


def _fill_disk(target: Target) -> None:
    assert target.disk is not None
    ballast = target.disk / "ballast"
    try:
        # The training writes meanwhile, so how much fits is known only when no more does.
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                pass
        time.sleep(_PAUSE_S)
    finally:
        ballast.unlink(missing_ok=True)


def _read_only(target: Target) -> None:
    assert target.disk is not None
    _remount(target.disk, "ro")
    try:
        time.sleep(_PAUSE_S)
    finally:
        _remount(target.disk, "rw")


def _remount(disk: Path, mode: str) -> None:
    for _ in range(100):  # a file that is open for writing keeps it busy
        done = subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=False, capture_output=True)
        if done.returncode == 0:
            return
        time.sleep(0.02)
    raise StuckError(f"{disk} could not be mounted {mode}")


def _away(target: Target) -> None:
    """As a network folder whose server restarts."""
    root = target.run.parents[1]
    hidden = root.with_name(f"{root.name}-away")
    root.rename(hidden)
    try:
        time.sleep(_PAUSE_S)
    finally:
        if root.exists():  # someone made it anew: whatever is in it must not be lost unseen
            raise StuckError(f"something was written while storage was away: {list(root.rglob('*'))[:3]}")
        hidden.rename(root)


@contextmanager
def _stopped(target: Target, name: str) -> Generator[None]:
    process = _one(target, name)
    process.suspend()
    try:
        yield
    finally:
        process.resume()


TRAINING = (
    Fault("kill a worker", _kill("RayTrainWorker")),
    Fault("kill the controller", _kill("TrainController")),
    Fault("kill the raylet", _kill("raylet")),
    Fault("kill the GCS", _kill("gcs_server")),
    Fault("kill the driver", _signal(signal.SIGKILL), (-signal.SIGKILL,), must_end=True),
    Fault("SIGTERM", _signal(signal.SIGTERM), (143,), must_end=True),
    Fault("SIGINT", _signal(signal.SIGINT), (130,), must_end=True),
    Fault("stop a worker", _stop("RayTrainWorker")),
    Fault("stop the driver", _stop("driver")),
    Fault("damage a checkpoint", _damage_checkpoint),
    Fault("damage a record", _damage_record, (-signal.SIGKILL,), must_end=True),
    Fault("fill the disk", _fill_disk, (3,), needs_disk=True),
    Fault("read-only storage", _read_only, needs_disk=True),
    Fault("storage away", _away),
)
SEARCH = (
    Fault("kill a trial's worker", _kill("RayTrainWorker")),
    Fault("kill a search's actor", _kill("ray::", but=_AGENTS)),
    # The raylet then ends itself, and Ray may end the driver with it: it writes into the raylet's object store that the
    # driver's objects are lost, and leaves with 1 where that is gone (plasma::StoreConn::ExitIfErrorStatus).
    Fault("kill a search's agent", _kill("Agent"), (1,)),
    Fault("kill a search's driver", _signal(signal.SIGKILL), (-signal.SIGKILL,), must_end=True),
    Fault("kill a search's raylet", _kill("raylet")),
    Fault("SIGTERM to a search", _signal(signal.SIGTERM), (143,), must_end=True),
    Fault("SIGINT to a search", _signal(signal.SIGINT), (130,), must_end=True),
)
