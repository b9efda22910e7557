"""Two Ray nodes in two networks of their own, images and checkpoints on an S3 server that both reach."""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.storage.store import Store
from ray_jobs.job.toml import check, print_config
from ray_jobs.job.toml_codec import merged
from tests.s3_server import KEYS, S3Server, s3_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

ROOT = Path(__file__).parents[2]
PORT = 6379
HEALTH = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 4,
}


@dataclass
class Machine:
    """A network of its own, with a cache and temporary files of its own."""

    namespace: str
    address: str
    folder: Path
    started: list["subprocess.Popen[bytes]"] = field(default_factory=list["subprocess.Popen[bytes]"])

    def start(self, *command: str, head: str, name: str) -> "subprocess.Popen[bytes]":
        """A process here; what it says goes to a file. `name` is that of its folder for caches."""
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / f"cache-{name}"),
            "TMPDIR": str(self.folder / "tmp"),
            "RAY_ADDRESS": head,
            "RAY_AUTH_MODE": "disabled",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
            "RAY_USAGE_STATS_ENABLED": "0",
            **KEYS,
        }
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *command],
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process

    def start_ray(self, head: "Machine", name: str) -> psutil.Process:
        """A Ray node of one CPU that ends with the process returned."""
        role = (
            ["--head", f"--port={PORT}", "--include-dashboard=false", f"--system-config={json.dumps(HEALTH)}",
             f"--temp-dir={self.ray_folder}"]
            if self is head
            else [f"--address={head.address}:{PORT}"]
        )  # fmt: skip
        options = [f"--node-ip-address={self.address}", "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *role, *options, "--block"]
        return psutil.Process(self.start(*command, head="", name=name).pid)

    def resnet_dist(self, *arguments: str, head: "Machine", name: str) -> "subprocess.Popen[bytes]":
        """The command, here."""
        command = [sys.executable, "-m", "ray_jobs", *arguments]
        return self.start(*command, head=f"{head.address}:{PORT}", name=name)

    def said(self, name: str) -> str:
        """What a process has said so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def end(self) -> None:
        """Kill what was started here, and wait for it."""
        for process in self.started:
            if process.poll() is None:
                kill(psutil.Process(process.pid))
            process.wait()
        shutil.rmtree(self.ray_folder, ignore_errors=True)

    @property
    def ray_folder(self) -> Path:
        """Ray's own, where the head is: its sockets lie below it, whose paths Linux bounds to 107 bytes."""
        return Path(tempfile.gettempdir(), f"rd-{self.namespace}")


def kill(process: psutil.Process) -> None:
    """A process and all below it, at once."""
    victims = [process, *process.children(recursive=True)]
    for victim in victims:
        if victim.is_running():
            victim.kill()
    _, alive = psutil.wait_procs(victims, timeout=20)
    assert not alive


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def two_networks(folder: Path) -> Generator[tuple[str, Machine, Machine]]:
    """A bridge with an address of this machine, and two network namespaces on it; nothing is left of them."""
    mark = secrets.token_hex(3)
    bridge, net = f"rdb{mark}", f"198.18.{secrets.randbelow(250) + 1}"  # RFC 2544: no network's own
    machines = [Machine(f"rd{mark}{n}", f"{net}.{n + 2}", folder / f"machine-{n}") for n in range(2)]
    with ExitStack() as undone:
        try:
            ip("link", "add", bridge, "type", "bridge")
            undone.callback(ip, "link", "del", bridge)
            ip("addr", "add", f"{net}.1/24", "dev", bridge)
            ip("link", "set", bridge, "up")
            for number, machine in enumerate(machines):
                ip("netns", "add", machine.namespace)
                undone.callback(ip, "netns", "del", machine.namespace)  # its end of the link goes with it
                outside, inside = f"rdv{mark}{number}", f"rdw{mark}{number}"
                ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", machine.namespace)
                ip("link", "set", outside, "master", bridge, "up")
                ip("-n", machine.namespace, "addr", "add", f"{machine.address}/24", "dev", inside)
                ip("-n", machine.namespace, "link", "set", inside, "up")
                ip("-n", machine.namespace, "link", "set", "lo", "up")
                ip("-n", machine.namespace, "route", "add", "default", "via", f"{net}.1")
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            pytest.skip(f"two network namespaces cannot be made here: {getattr(error, 'stderr', None) or error}")
        for machine in machines:
            undone.callback(machine.end)
            machine.folder.mkdir()
        yield f"{net}.1", *machines


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[S3Server, Machine, Machine]]:
    """The S3 server and the two machines."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with two_networks(tmp_path) as (address, head, other), s3_server(tmp_path / "s3", address) as server:
        yield server, head, other


def wait_for(holds: Callable[[], Any], what: Callable[[], str], most_s: float = 120.0) -> None:
    deadline = time.monotonic() + most_s
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def trains(node: psutil.Process) -> bool:
    found = False
    for child in node.children(recursive=True):
        try:
            found = found or "RayTrainWorker" in " ".join(child.cmdline())
        except psutil.Error:
            continue
    return found


def test_a_node_dies_in_the_middle_and_another_exports_what_was_learnt(
    site: tuple[S3Server, Machine, Machine], make_job: Any, undisturbed: Any, digits_folder: Path, assert_same: Any
) -> None:
    server, head, other = site
    server.upload(digits_folder, "data/sets/digits")
    overrides = {
        "data": {"root": server.uri("data/sets/digits"), "cache_dir": ""},
        "storage": {"root": server.uri("data/out")},
        "cluster": {"address": "auto", "local_cpus": None, "lease_ttl_s": 10.0},
        "checkpoint": {"every_steps": 1},
    }
    job = check(merged(make_job("two-nodes", 2).model_dump(), overrides))
    config = head.folder / "job.toml"
    config.write_text(print_config(job))

    began = time.monotonic()
    head_node = head.start_ray(head, "ray")
    # The second node is late; the command waits for it.
    driver = head.resnet_dist("train", "--config", str(config), head=head, name="train")
    wait_for(lambda: "waiting for nodes" in head.said("train") or driver.poll() is not None, lambda: head.said("train"))
    print(f"{time.monotonic() - began:.1f} s: waits for a node")
    other_node = other.start_ray(head, "ray")
    run = Store.open(job.storage.root).child("runs/two-nodes")

    def stored() -> int:
        whole = (each for each in run.list("checkpoints") if run.exists(f"checkpoints/{each}/manifest.json"))
        return max((int(name.removeprefix("step-")) for name in whole), default=0)

    wait_for(lambda: stored() >= 1 or driver.poll() is not None, lambda: head.said("train"))
    assert driver.poll() is None, head.said("train")
    print(f"{time.monotonic() - began:.1f} s: step {stored()} is stored")
    assert trains(head_node)
    assert trains(other_node)
    kill(other_node)
    at = stored()
    print(f"{time.monotonic() - began:.1f} s: killed at step {at}")
    wait_for(
        lambda: "restarting from step" in head.said("train") or driver.poll() is not None, lambda: head.said("train")
    )
    print(f"{time.monotonic() - began:.1f} s: noticed")
    other.start_ray(head, "replacement")
    try:
        driver.wait(timeout=150)
    finally:
        print(head.said("train"))
    assert driver.returncode == 0
    print(f"{time.monotonic() - began:.1f} s: done")
    assert "resuming at step" in head.said("train")
    assert_same(job, undisturbed.job)
    status = json.loads(run.read("status.json"))
    assert status["state"] == "done"

    # Each machine has fetched the images for itself, the replacement too.
    for machine, name in ((head, "ray"), (other, "ray"), (other, "replacement")):
        kept = list((machine.folder / f"cache-{name}" / "resnet-dist" / "images").glob("*/files/digits/train/*/*.png"))
        assert len(kept) == 47, (machine.address, name)

    exported = other.resnet_dist(
        "export", "two-nodes", "--storage.root", job.storage.root, "--formats", "onnx", head=head, name="export"
    )
    assert exported.wait(timeout=100) == 0, other.said("export")
    assert {"bundle.json", "model.onnx"} <= {*run.list("bundle"), *run.list("bundle/onnx")}
    print(f"{time.monotonic() - began:.1f} s: exported")
