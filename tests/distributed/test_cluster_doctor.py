"""`doctor` of a running Ray: nodes that are processes of this machine, with addresses, environments and mounts of their
own; a node that is not as the others, one that is frozen and one that dies while it is asked."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.free_port import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HEAD, SECOND, THIRD = "127.0.0.2", "127.0.0.3", "127.0.0.4"
MAY_MOUNT = subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """What the condition comes to, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


@dataclass
class RayNode:
    """A raylet, with all that `ray start` starts beside it."""

    process: subprocess.Popen[bytes]

    def tree(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def agents(self) -> list[psutil.Process]:
        """Processes in which `doctor` is at work."""
        found: list[psutil.Process] = []
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                if "NodeAgent" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def send(self, what: signal.Signals) -> None:
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(what)

    def end(self) -> None:
        processes = self.tree()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(40)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        psutil.wait_procs(processes, timeout=20)


@dataclass
class RayCluster:
    """Nodes on loopback addresses, for whoever has the token."""

    folder: Path
    port: int
    environment: dict[str, str]
    nodes: list[RayNode] = field(default_factory=list)

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    def start(self, address: str, *, prefix: tuple[str, ...] = (), **environment: str) -> RayNode:
        """A node, once it runs. One at a time: Ray's own start is not made for two at once on a machine."""
        head = ["--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder / 'r'}"]
        head += [f"--ray-client-server-port={free_port(HEAD)}"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={address}"]
        command += head if not self.nodes else [f"--address={HEAD}:{self.port}"]
        command += ["--num-cpus=1", "--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"]
        log = self.folder / f"{address}.log"
        with log.open("wb") as stream:
            started = subprocess.Popen(
                [*prefix, *command], env=self.environment | environment, cwd=ROOT, stdout=stream, stderr=stream
            )
        node = RayNode(started)
        self.nodes.append(node)
        wait_for(
            lambda: started.poll() is not None or b"Ray runtime started" in log.read_bytes(),
            f"the node at {address} does not start",
            120,
        )
        assert started.poll() is None, log.read_text()
        return node

    def begin_doctor(self, *arguments: str, report: Path, root: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "ray_jobs", "doctor", "--cluster.address", f"{HEAD}:{self.port}"),
                *("--storage.root", str(root or self.storage), "--json", str(report), *arguments),
            ],
            env=self.environment | {"COLUMNS": "300"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def doctor(self, *arguments: str, report: Path, root: Path | None = None) -> tuple[int, list[dict[str, str]], str]:
        """Its exit code, what it found, and all that it printed."""
        with self.begin_doctor(*arguments, report=report, root=root) as process:
            try:
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
        return process.returncode, json.loads(report.read_bytes()) if report.is_file() else [], out + err

    def assert_nothing_left(self) -> None:
        wait_for(lambda: not [each for node in self.nodes for each in node.agents()], "processes are left", 30)
        assert list(self.storage.iterdir()) == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Head and one worker node; Ray's sockets need a short folder."""
    folder = Path(tempfile.mkdtemp(prefix="rd-doctor-", dir="/tmp"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RESNET_DIST_IMAGE": "resnet-dist:test",
    }
    made = RayCluster(folder, free_port(HEAD), environment)
    made.storage.mkdir()
    try:
        made.start(HEAD)
        made.start(SECOND)
        yield made
    finally:
        for node in reversed(made.nodes):
            node.end()
        shutil.rmtree(folder)


@pytest.fixture
def odd(cluster: RayCluster) -> RayNode:
    """A third node, where one package is another and, if this user may mount, storage is a folder of its own."""
    if len(cluster.nodes) > 2 and cluster.nodes[2].process.poll() is None:
        return cluster.nodes[2]
    del cluster.nodes[2:]
    site = cluster.folder / "site"
    info = site / "scikit_learn-1.99.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 1.99.0\n")
    mount = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs none {cluster.storage} && exec "$@"', "sh")
    return cluster.start(
        THIRD, prefix=mount if MAY_MOUNT else (), PYTHONPATH=str(site), RESNET_DIST_IMAGE="resnet-dist:other"
    )


def errors(found: list[dict[str, str]]) -> set[str]:
    """Names of the checks that failed; on the third node, or it fails here."""
    failed = [each for each in found if each["status"] == "error"]
    assert {each["node"] for each in failed} <= {named(THIRD)}
    return {each["name"] for each in failed}


def named(address: str) -> str:
    return f"{socket.gethostname()} ({address})"


def test_a_fit_cluster_is_fit_node_by_node(cluster: RayCluster, tmp_path: Path) -> None:
    root = tmp_path / "not" / "yet"
    code, found, printed = cluster.doctor(report=tmp_path / "found.json", root=root)
    assert (code, errors(found)) == (0, set()), printed
    assert printed.rstrip().endswith("2 nodes: fit for jobs")
    by_check: dict[str, dict[str, dict[str, str]]] = {}
    for each in found:
        by_check.setdefault(each["name"], {})[each["node"]] = each
    nodes = {named(HEAD), named(SECOND)}
    for check in ("node", "image", "same packages", "same code", "memory", "DALI on cpu", "clock", "storage root"):
        assert set(by_check[check]) >= nodes, check
    assert by_check["image"][named(HEAD)]["found"] == "resnet-dist:test"
    assert "head" in by_check["node"][named(HEAD)]["found"]
    assert all("reaches 1 of 1 nodes" in each["found"] for each in by_check["network"].values())
    assert "2 ranks on 2 nodes" in by_check["all-reduce by gloo"][""]["found"]
    assert not root.parent.exists()
    cluster.assert_nothing_left()


@pytest.mark.usefixtures("odd")
def test_a_node_that_is_not_as_the_others_is_named_and_no_other(cluster: RayCluster, tmp_path: Path) -> None:
    code, found, printed = cluster.doctor(report=tmp_path / "found.json")
    assert code == 1
    assert errors(found) == {"same packages", *(["storage root"] if MAY_MOUNT else [])}, printed
    texts = {each["name"]: each["found"] for each in found if each["node"] == named(THIRD)}
    assert "scikit-learn 1.99.0" in texts["same packages"]
    assert "resnet-dist:other" in texts["image"]
    assert "is not what" in texts["storage root"] or not MAY_MOUNT
    assert f"3 nodes: not fit: {named(THIRD)}\n" in printed
    assert "Traceback" not in printed
    cluster.assert_nothing_left()


def test_a_frozen_node_is_named_in_bounded_time(cluster: RayCluster, odd: RayNode, tmp_path: Path) -> None:
    odd.send(signal.SIGSTOP)
    try:
        began = time.monotonic()
        code, found, printed = cluster.doctor("--timeout", "20", report=tmp_path / "found.json")
        took = time.monotonic() - began
    finally:
        odd.send(signal.SIGCONT)
    assert code == 1
    assert errors(found) == {"answers"}, printed
    assert "has not answered for 20 s" in printed
    assert "2 ranks on 2 nodes" in printed
    assert "Traceback" not in printed
    assert took < 80
    cluster.assert_nothing_left()


def test_a_node_that_dies_while_it_is_asked_is_named(cluster: RayCluster, odd: RayNode, tmp_path: Path) -> None:
    report = tmp_path / "found.json"
    with cluster.begin_doctor(report=report) as process:
        try:
            wait_for(odd.agents, "doctor does not come to the third node")
            odd.send(signal.SIGKILL)
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 1
    assert errors(json.loads(report.read_bytes())) == {"same packages", "answers"}, out + err
    assert "Traceback" not in out + err
    cluster.assert_nothing_left()


def test_an_interrupted_doctor_leaves_nothing(cluster: RayCluster, tmp_path: Path) -> None:
    with cluster.begin_doctor(report=tmp_path / "found.json") as process:
        try:
            wait_for(cluster.nodes[1].agents, "doctor does not come to the second node")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, "Traceback" in err) == (130, False), err
    cluster.assert_nothing_left()
