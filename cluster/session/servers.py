"""The processes of an embedded Ray, which this process has started: whether they live, and what SIGTERM means here."""

import _thread
import signal
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray._private import ray_constants, worker

from cluster.errors import RayDiedError, TargetUnreachableError
from cluster.session.liveness import silent_for_s, wait_for_answer

_RAYS_OWN = "ray::"
"""Names of Ray's workers and agents begin so; what they started themselves has other names."""
_LAST_MOMENT_S = 10.0
_LOOK_EVERY_S = 1.0
_NOTICED_BY_THEN_S = 4.0
"""Who looks after Ray by itself has noticed its death by then. Ray Tune has not: it cleans up, and some seconds
later it would wait in a call that nothing can wake."""
_NAMES = {
    ray_constants.PROCESS_TYPE_RAYLET: "its raylet",
    ray_constants.PROCESS_TYPE_GCS_SERVER: "its control store (GCS)",
}


def death() -> str | None:
    """What has ended of the embedded Ray, and how; None while it lives, and where it is not this process's own."""
    node: Any = worker._global_node  # pyright: ignore[reportUnknownMemberType, reportPrivateUsage]
    if node is None:
        return None
    for kind, process in node.dead_processes():
        if kind in _NAMES:
            return f"Ray has died: {_NAMES[kind]} {_ending(process.returncode)}"
    return None


def lives() -> bool:
    """Whether Ray answers. What is asked of a dead one may wait for a minute."""
    return death() is None and silent_for_s() is None


def require_life() -> None:
    """Raise RayDiedError where the embedded Ray has died, TargetUnreachableError where another one does not answer."""
    if (what := death()) is not None:
        raise RayDiedError(what)
    if (silence := silent_for_s()) is not None:
        raise TargetUnreachableError(
            f"Ray has not answered for {silence:.0f} s (its control store or this node's raylet has died); start it "
            "again, and the same command resumes"
        )


def leave_if_dead() -> None:
    """As `require_life`, for what Ray Tune calls: a KeyboardInterrupt where the embedded Ray has died.

    After an Exception Ray Tune cleans up first, with calls that a dead control store never answers.
    """
    try:
        require_life()
    except RayDiedError as died:
        raise KeyboardInterrupt(str(died)) from died


def require_answer() -> None:
    """As `require_life`, where something has failed that fails with Ray: another one is asked now, and may take long.

    Without this, the next call to a Ray that has just died would block until Ray itself ends this process.
    """
    wait_for_answer()
    require_life()


@contextmanager
def naming_death() -> Generator[None]:
    """Within, whatever fails where the embedded Ray has died fails with RayDiedError, and so does what waits for it."""
    woken = threading.Event()
    try:
        with _waking_at_death(woken):
            yield
    except (Exception, KeyboardInterrupt) as error:
        what = death()
        by_signal = isinstance(error, KeyboardInterrupt) and not woken.is_set()
        if what is None or by_signal or isinstance(error, RayDiedError):
            raise
        raise RayDiedError(what) from error


@contextmanager
def _waking_at_death(woken: threading.Event) -> Generator[None]:
    """Some of Ray's calls wait for ever for a Ray that has died. Within, the main thread leaves them after a while."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            if death() is not None and not ended.wait(_NOTICED_BY_THEN_S):
                woken.set()
                _thread.interrupt_main()
                return

    watcher = threading.Thread(target=watch, daemon=True, name="ray-watcher")
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextmanager
def silent() -> Generator[None]:
    """Within, Ray's processes print nothing in this one: of a death that RayDiedError tells they say twenty lines."""
    worker._worker_logs_enabled = False  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    finally:
        worker._worker_logs_enabled = True  # pyright: ignore[reportPrivateUsage]


@contextmanager
def answering_sigterm() -> Generator[None]:
    """Around Ray's start, which makes SIGTERM a `sys.exit` in this process: what it did before, if anything, stays."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        if error.code == signal.SIGTERM and callable(before):  # it came meanwhile
            before(signal.SIGTERM, None)
        raise
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def shut_down(folder: Path) -> None:
    """End the embedded Ray whose files lie below `folder`, and all that it has started."""
    node: Any = worker._global_node  # pyright: ignore[reportUnknownMemberType, reportPrivateUsage]
    raylets = [child for child in psutil.Process().children() if child.name() == "raylet"]
    started = {each for raylet in raylets for each in raylet.children(recursive=True)}  # may have closed its files
    if death() is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
        orphans = _of_raylet(folder)
        _kill(orphans)
        started.update(orphans)
    ray.shutdown(wait_for_processes=True)
    # Workers outlive their raylet by a moment, and agents would report its end for seconds, to servers that are gone.
    started.update(_of_raylet(folder))
    _kill(each for each in started if _is_rays_own(each))
    _, alive = psutil.wait_procs(started, timeout=_LAST_MOMENT_S)
    _kill(alive)


def end_unready(folder: Path) -> None:
    """End the processes, with files below `folder`, of an embedded Ray whose start has failed: Ray forgets them."""
    ours: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            ours += [child, *child.children(recursive=True)] if str(folder) in " ".join(child.cmdline()) else []
    _kill(ours)
    psutil.wait_procs(ours, timeout=_LAST_MOMENT_S)


def _is_rays_own(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.name().startswith(_RAYS_OWN)
    return False


def _of_raylet(folder: Path) -> list[psutil.Process]:
    """What the raylet whose files lie below a folder has started: it holds the files that the raylet prints to, or a
    worker's.

    Once their raylet has died such processes are nobody's children, and the environment of Ray's own tells nothing: Ray
    overwrites it with the name that `ps` shows.
    """
    root = folder.resolve()
    return [each for each in psutil.process_iter() if _prints_there(each.pid, root)]


def _prints_there(pid: int, folder: Path) -> bool:
    with suppress(OSError):  # it has ended, or is another user's
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                file = descriptor.readlink()
                if file.name.startswith(("raylet.", "worker-")) and file.is_relative_to(folder):
                    return True
    return False


def _kill(processes: Iterable[psutil.Process]) -> None:
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            each.kill()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
