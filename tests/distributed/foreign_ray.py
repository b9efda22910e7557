"""A Ray that is no command's own: `ray start` in a process of its own, for which it listens on free ports."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from cluster.session.environment import environment
from tests.free_port import free_port

_LONGEST_START_S = 120.0


@contextmanager
def foreign_ray() -> Iterator[tuple[str, psutil.Process]]:
    """Its address, and the process above all others. Its drivers need RAY_AUTH_MODE=disabled, which is set within."""
    folder = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))  # short: Ray's sockets lie in it
    port = free_port()
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--include-dashboard=false"),
        *("--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2", "--object-store-memory=80000000"),
        *(f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"),
        *(f"--temp-dir={folder / 'r'}", "--min-worker-port=0", "--max-worker-port=0"),
    ]
    others = dict.fromkeys(name for name in os.environ if name.startswith("RAY_"))
    with environment(others | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}):
        with (folder / "log").open("wb") as log:
            started = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        head, below = psutil.Process(started.pid), list[psutil.Process]()
        try:
            deadline = time.monotonic() + _LONGEST_START_S
            while b"Ray runtime started" not in (folder / "log").read_bytes():
                assert started.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
            below = head.children(recursive=True)
            yield f"127.0.0.1:{port}", head
        finally:
            with suppress(psutil.NoSuchProcess):
                below = [*below, *head.children(recursive=True)]
            for process in [head, *below]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            started.wait()
            _, alive = psutil.wait_procs(below, timeout=30)
            assert not alive
            shutil.rmtree(folder, ignore_errors=True)
