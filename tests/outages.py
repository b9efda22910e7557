"""Storage that goes away and comes back: a folder that is moved, a file system that turns read-only, a server that is
too busy."""

import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pyarrow import fs


@contextmanager
def moved_away(folder: Path) -> Generator[None]:
    """Within, the folder is not there. It must not have been made anew meanwhile."""
    aside = folder.with_name(f"{folder.name}-away")
    folder.rename(aside)
    try:
        yield
    finally:
        assert not folder.exists(), f"{[*folder.rglob('*')]} was written while storage was away"
        aside.rename(folder)


@contextmanager
def file_system(folder: Path, size: str = "200m") -> Generator[Path]:
    """A file system of its own, at a folder that is made; skips where mounting is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True) if os.geteuid() == 0 else None
    if mounted is None or mounted.returncode:
        pytest.skip(f"mounting a file system: {mounted.stderr.strip() if mounted else 'needs root'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def read_only(mounted: Path) -> Generator[None]:
    """Within, nothing can be written to a file system."""
    deadline = time.monotonic() + 60
    while subprocess.run(["mount", "-o", "remount,ro", str(mounted)], capture_output=True).returncode:
        assert time.monotonic() < deadline, "a file there is always open for writing"
        time.sleep(0.01)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)


class BusyServer:
    """Answers each request for an object with its size, but `busy` of them with 503 before."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.busy = 0
        self.requests = 0

    @property
    def filesystem(self) -> fs.S3FileSystem:
        """One that itself tries nothing again."""
        once = fs.AwsStandardS3RetryStrategy(max_attempts=1)
        return fs.S3FileSystem(
            access_key="a", secret_key="b", endpoint_override=self.address, scheme="http", retry_strategy=once
        )


@contextmanager
def busy_server() -> Generator[BusyServer]:
    """On the loopback, ended at the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            server.requests += 1
            code = 503 if server.requests <= server.busy else 200
            self.send_response(code)
            self.send_header("Content-Length", "5")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server = BusyServer(f"127.0.0.1:{listening.server_port}")
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


class FaultyServer:
    """An address that passes requests on to a server, or answers them with 503."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_busy = False
        self.refused = 0


@contextmanager
def faulty_server(upstream: str) -> Generator[FaultyServer]:
    """In front of the server at `upstream`, on the loopback; ended at the end."""
    host, _, port = upstream.rpartition(":")
    ended = threading.Event()

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection((host, int(port))) as behind:
            other = {client: behind, behind: client}
            while not ended.is_set():
                for ready in select.select(list(other), [], [], 0.1)[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    if server.is_busy and ready is client:
                        server.refused += 1
                        client.sendall(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                        return
                    other[ready].sendall(data)

    def answer() -> None:
        with ThreadPoolExecutor(64) as pool:
            while not ended.is_set():
                if select.select([listener], [], [], 0.1)[0]:
                    pool.submit(serve, listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = FaultyServer(f"127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            thread.join()
