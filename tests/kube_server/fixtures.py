"""The servers that all tests of a process share; each test finds them empty."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kube_server.server import KubeServer


@pytest.fixture(scope="session")
def server_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1."""
    from tests.kube_server.certificate import make_certificate  # noqa: PLC0415 - seconds, which other tests need not

    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def _http_server() -> Iterator["KubeServer"]:
    from tests.kube_server.server import KubeServer  # noqa: PLC0415

    with KubeServer() as server:
        yield server


@pytest.fixture(scope="session")
def _https_server(server_certificate: Path) -> Iterator["KubeServer"]:
    from tests.kube_server.server import KubeServer  # noqa: PLC0415

    with KubeServer(server_certificate) as server:
        yield server


@pytest.fixture
def kube_server(_http_server: "KubeServer") -> Iterator["KubeServer"]:
    """An API server with the namespace "default"."""
    _http_server.reset()
    yield _http_server
    _http_server.reset()  # which also ends the connections


@pytest.fixture
def kube_server_https(_https_server: "KubeServer") -> Iterator["KubeServer"]:
    """The same over HTTPS: kubectl sends its token over TLS alone."""
    _https_server.reset()
    yield _https_server
    _https_server.reset()
