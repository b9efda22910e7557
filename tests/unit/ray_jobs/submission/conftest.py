"""Commands that submit and follow jobs, in this process, against a server that speaks the Kubernetes API."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ray_jobs.cli.app import main
from tests.kube_server.server import KubeServer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(kube_server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubeServer:
    kube_server.add_namespace("vision")
    monkeypatch.setenv("KUBECONFIG", str(kube_server.kubeconfig(tmp_path)))
    return kube_server


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return command
