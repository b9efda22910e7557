"""Every command of docs/cluster.md: ours run against a server that speaks the Kubernetes API, kubectl's folders build,
and what else is typed is known to be somebody else's program."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cluster.kube.client.kinds import NAMESPACE, RAY_JOB
from ray_jobs.cli.app import main
from tests.kube_server.operators import Operators
from tests.kube_server.server import KubeServer

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "cluster.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
OTHERS = {"kind", "helm", "docker", "kubectl"}
"""Programs that are not ours, and need a cluster or an engine."""


def files() -> dict[str, str]:
    """The files that the page has the reader write, by the name in their first line."""
    return {body.splitlines()[0].removeprefix("# "): body for kind, body in BLOCKS if kind == "toml"}


def commands() -> list[list[str]]:
    """What is typed: the lines after a "$" where a block shows output, else all of them."""
    found: list[list[str]] = []
    for kind, body in BLOCKS:
        lines = body.splitlines()
        if kind:
            continue
        typed = [line[2:] for line in lines if line.startswith("$ ")] or lines
        found += [shlex.split(line) for line in typed]
    return found


def ours(*, remote: bool) -> list[list[str]]:
    mine = [words[1:] for words in commands() if words[0] == "resnet-dist"]
    return [words for words in mine if ("--cluster.address" in words) == remote]


@pytest.fixture
def server(kube_server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubeServer:
    kube_server.add_namespace("resnet-dist")
    monkeypatch.setenv("KUBECONFIG", str(kube_server.kubeconfig(tmp_path)))
    monkeypatch.chdir(tmp_path)
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    return kube_server


def apply(server: KubeServer, folder: str) -> None:
    """As kubectl does."""
    done = subprocess.run(["kubectl", "kustomize", ROOT / folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    served = {(kind.api_version, kind.name): kind for kind in server.store.kinds}
    for body in yaml.safe_load_all(done.stdout):
        kind = served.get((body["apiVersion"], body["kind"]))
        if kind is not None:
            server.store.create(kind, body["metadata"].get("namespace", "") if kind.namespaced else "", body)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
def test_our_commands_run_in_their_order(server: KubeServer, capsys: pytest.CaptureFixture[str]) -> None:
    apply(server, "k8s/queues/admin")
    operators = Operators(server, "resnet-dist")
    said: dict[str, str] = {}
    for words in ours(remote=False):
        if words[:2] == ["jobs", "wait"]:
            operators.start("tiles")
            operators.run("tiles")
            operators.say("tiles", "epoch 1")
            operators.succeed("tiles")
        code = main(words)
        shown = capsys.readouterr()
        said[" ".join(words)] = shown.out
        assert code == 0, (words, shown.out, shown.err)
    # What the page shows of the first submission is what is printed.
    first = next(body for _, body in BLOCKS if body.startswith("$ resnet-dist submit train --config job.toml"))
    assert said["submit train --config job.toml --namespace resnet-dist"].splitlines() == first.splitlines()[1:]
    assert (
        "4 GPUs, 16 CPUs"
        in said["submit train --config gpu.toml --namespace resnet-dist --image resnet-dist:0.2.0-gpu"]
    )
    jobs = {job["metadata"]["name"] for job in server.store.objects(RAY_JOB, "inspection")}
    assert jobs == {"welds"}
    assert {each["metadata"]["name"] for each in server.store.objects(NAMESPACE)} >= {"inspection"}


def test_commands_for_a_running_ray_are_ones_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Their flags and their address are read; nobody answers at HOST. tests/distributed runs them for real."""
    remote = ours(remote=True)
    assert len(remote) >= 4
    for words in remote:
        assert main([*words, "--help"]) == 0
        capsys.readouterr()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine")
def test_what_kubectl_applies_builds() -> None:
    folders = {words[words.index("-k") + 1] for words in commands() if words[0] == "kubectl" and "-k" in words}
    assert folders == {"k8s/overlays/cpu-kind", "k8s/overlays/gpu", "k8s/queues/admin"}
    for folder in folders:
        done = subprocess.run(["kubectl", "kustomize", ROOT / folder], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_every_other_command_is_a_known_program_on_files_that_are_there() -> None:
    for words in commands():
        assert words[0] in {"resnet-dist", *OTHERS}, words
        if words[:2] == ["docker", "build"]:
            assert (ROOT / words[words.index("-f") + 1]).is_file()
    for name in re.findall(r"`((?:k8s|tests|cluster)/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists(), name
