"""Jobs on a Ray that runs already, over its HTTP API: a real head with its job server, for whoever has the token."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.driver_log import read_end, read_log
from tests.free_port import free_port, free_ports

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NODE = "127.0.0.9"
TINY = (
    *("--model.arch", "resnet18", "--model.weights", "none", "--data.image-size", "32"),
    *("--training.epochs", "1", "--training.global-batch-size", "16", "--training.microbatch-size", "4"),
    *("--cluster.no-use-gpu", "--cluster.cpus-per-worker", "1"),
)


@dataclass
class Head:
    """A Ray, and how the command line reaches it."""

    address: str
    environment: dict[str, str]

    def begin(self, *words: str, cwd: Path = ROOT, **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "ray_jobs", *words, "--cluster.address", self.address]
        return subprocess.Popen(
            command,
            env=self.environment | environment,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, cwd: Path = ROOT, **environment: str) -> tuple[int, str, str]:
        with self.begin(*words, cwd=cwd, **environment) as process:
            try:
                out, err = process.communicate(timeout=200)
            finally:
                process.kill()
        return process.returncode, out, err


@pytest.fixture(scope="module")
def head() -> Generator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short: Ray's sockets lie in it
    port, dashboard, agent, client = free_ports(4)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        # The drivers' `python` is this one.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        # An address and ports that no other Ray of this machine has: the jobs' agent ends where its port is taken.
        *(f"--node-ip-address={NODE}", f"--port={port}", "--num-cpus=2", "--object-store-memory=80000000"),
        *(f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"),
        *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *(f"--temp-dir={folder / 'r'}", "--min-worker-port=0", "--max-worker-port=0"),
    ]
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 90
        while b"Ray runtime started" not in (folder / "log").read_bytes():
            assert started.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield Head(f"http://127.0.0.1:{dashboard}", environment)
    finally:
        with suppress(psutil.NoSuchProcess):
            processes = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]
            started.terminate()
            with suppress(subprocess.TimeoutExpired):
                started.wait(40)
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            started.wait()
            _, alive = psutil.wait_procs(processes, timeout=20)
            assert not alive
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def job(tmp_path: Path, digits_folder: Path) -> tuple[str, ...]:
    """Flags of a tiny training whose name no other test has."""
    where = ("--data.root", str(digits_folder), "--storage.root", str(tmp_path / "out"))
    return (*TINY, *where, "--data.cache-dir", str(tmp_path / "cache"), "--name", f"tiny-{secrets.token_hex(3)}")


def test_train_runs_there_as_if_it_ran_here(head: Head, job: tuple[str, ...], tmp_path: Path) -> None:
    code, out, err = head.run("train", *job)
    assert code == 0, out + err
    assert "finished: 1 epochs" in out
    run = RunDirectory.named(str(tmp_path / "out"), job[-1])
    status = run.read_status()
    assert status is not None
    assert (status.state, status.exit_code) == ("done", 0)
    end = read_end(run.store, status.submission)
    assert end is not None
    assert (end.exit_code, end.attempt) == (0, 1)
    assert "finished: 1 epochs" in read_log(run.store, status.submission)

    # The same job is done; more epochs are asked for, and it goes on.
    code, out, _ = head.run("submit", "train", *job)
    assert code == 0
    assert "is there already (done)" in out
    code, out, err = head.run("train", *(*job[:7], "2", *job[8:]))
    assert code == 0, out + err
    assert "finished: 2 epochs" in out
    code, out, _ = head.run("jobs", "list")
    assert job[-1] in out

    code, out, err = head.run("evaluate", job[-1], "--split", "val", *job[-6:-4])
    assert code == 0, out + err
    assert run.store.exists("evaluation/val.json")


def test_a_wrong_job_ends_with_its_own_exit_code_everywhere(head: Head, job: tuple[str, ...], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    place = job.index("--data.root") + 1
    wrong = (*job[:place], str(empty), *job[place + 1 :])
    code, out, err = head.run("train", *wrong)
    assert code == 3, out + err
    assert f"{empty}" in out
    code, out, _ = head.run("jobs", "wait", job[-1])
    assert code == 3
    assert "failed, exit code 3" in out
    view = json.loads(head.run("jobs", "status", job[-1], "--json")[1])
    assert (view["state"], view["exit_code"], view["attempt"]) == ("failed", 3, 1)

    # Corrected: another data folder makes another job of that name, so it is refused; the same folder filled is not.
    code, _, err = head.run("submit", "train", *job)
    assert code == 2
    assert f"has a job {job[-1]} already (failed), and it is another one" in err
    code, out, err = head.run("submit", "train", *wrong)
    assert code == 0, err
    assert "submitted" in out
    assert head.run("jobs", "wait", job[-1])[0] == 3
    assert json.loads(head.run("jobs", "status", job[-1], "--json")[1])["attempt"] == 2


def test_a_job_is_submitted_followed_and_stopped(head: Head, job: tuple[str, ...], tmp_path: Path) -> None:
    long = (*job[:7], "5000", *job[8:])
    code, out, err = head.run("submit", "train", *long)
    assert code == 0, err
    assert f"job {job[-1]} submitted" in out
    with head.begin("jobs", "logs", job[-1], "--follow") as following:
        assert following.stdout is not None
        try:
            seen = next(line for line in following.stdout if "epoch" in line)
            assert seen
            code, out, err = head.run("jobs", "stop", job[-1])
            assert code == 0, err
            assert "stopped" in out
            following.communicate(timeout=60)
        finally:
            following.kill()
    assert following.returncode == 0
    assert head.run("jobs", "wait", job[-1])[0] == 130
    status = RunDirectory.named(str(tmp_path / "out"), job[-1]).read_status()
    assert status is not None
    assert (status.state, status.exit_code) == ("stopped", 130)  # RAY_JOB_STOP_SIGNAL is SIGINT


def test_a_changed_working_tree_reaches_the_job(head: Head, job: tuple[str, ...], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("cluster", "data_pipeline", "ray_jobs", "resnet_dist", "k8s", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    module = tree / "ray_jobs" / "cli" / "show.py"
    text = module.read_text()
    assert "{outcome.run} {done}: " in text
    module.write_text(text.replace("{outcome.run} {done}: ", "{outcome.run} {done} by other code: "))
    code, _, err = head.run("submit", "train", *job, "--working-tree", str(tree))
    assert code == 0, err
    assert head.run("jobs", "wait", job[-1])[0] == 0
    assert "finished by other code: 1 epochs" in head.run("jobs", "logs", job[-1])[1]


def test_who_has_another_token_is_told_what_to_set(head: Head, job: tuple[str, ...]) -> None:
    code, _, err = head.run("submit", "train", *job, RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert code == 2
    assert "does not accept the token" in err
    assert "RAY_AUTH_TOKEN" in err
    assert head.environment["RAY_AUTH_TOKEN"] not in err


def test_a_job_that_is_not_there(head: Head) -> None:
    code, _, err = head.run("jobs", "status", "no-such-job")
    assert code == 2
    assert "has no job no-such-job" in err


def test_where_nobody_listens(head: Head, job: tuple[str, ...]) -> None:
    nobody = Head(f"http://127.0.0.1:{free_port()}", head.environment)
    code, _, err = nobody.run("submit", "train", *job)
    assert code == 1
    assert "no Ray answers there" in err


def test_a_server_that_is_no_ray(head: Head, job: tuple[str, ...]) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        other = Head(f"http://127.0.0.1:{server.server_port}", head.environment)
        code, _, err = other.run("submit", "train", *job)
        server.shutdown()
    assert code == 2
    assert "answers, but not as a Ray does" in err


def test_a_folder_that_is_no_checkout_is_refused(head: Head, job: tuple[str, ...]) -> None:
    code, _, err = head.run("submit", "train", *job, "--working-tree", "nowhere")
    assert code == 2
    assert "nowhere is no checkout of resnet-dist" in err
