"""A Kubernetes API server on this machine, and our client of it, with little patience."""

from dataclasses import replace
from pathlib import Path

import pytest

from cluster.kube.client.api import KubeApi
from cluster.kube.client.kinds import CONFIG_MAP
from cluster.kube.client.outage import Patience
from tests.kube_server.server import KubeServer

QUICK = Patience(
    outage_s=10, unknown_s=5, first_pause_s=0.002, longest_pause_s=0.02, connect_s=5, read_s=5,
    silent_log_s=0.15,
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of this machine has no part in this."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server(kube_server: KubeServer) -> KubeServer:
    """An API server."""
    return kube_server


@pytest.fixture
def patience() -> Patience:
    """What `api` has of it."""
    return QUICK


@pytest.fixture
def api(server: KubeServer, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubeApi:
    """Our client, which has had an answer already."""
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
    api = KubeApi.connect(patience=patience)
    assert api.list(CONFIG_MAP) == []
    server.requests.clear()
    return api


@pytest.fixture
def hasty(patience: Patience) -> Patience:
    """Patience for a fraction of a second."""
    return replace(patience, outage_s=0.2, unknown_s=0.1)
