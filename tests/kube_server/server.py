"""An HTTP server that speaks as much of the Kubernetes API as jobs and queues need, on 127.0.0.1."""

import re
import socket
import ssl
import threading
import time
from contextlib import suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import yaml

from cluster.kube.client.kinds import NAMESPACE, Kind, Object
from tests.kube_server.faults import Faults
from tests.kube_server.handler import Handler
from tests.kube_server.logs import Logs
from tests.kube_server.refusals import group_of
from tests.kube_server.store import ObjectStore

THREAD = "kube-server"
"""Name of the thread that waits for connections."""


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    kube: "KubeServer"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients leave as they like, and faults end connections."""


class KubeServer:
    """A Kubernetes API server with objects in memory. Use with `with`, or `start` and `stop`.

    `store` is what it keeps: tests and operators write to it directly. All in it may be changed while it runs.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        """With a certificate it speaks HTTPS."""
        self.faults = Faults()
        self.denied: set[tuple[str, str, str]] = set()
        """(verb, resource, namespace) that nobody may; "*" and, for the namespace, "" stand for all."""
        self.requests: list[tuple[str, str]] = []
        """(verb, path with query) of each request since the start, refused ones too."""
        self.stopping = threading.Event()
        self._certificate = certificate
        self._port = 0
        self._http: _Http | None = None
        self._thread: threading.Thread | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._empty()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Its address; known from the first start on, and the same after each."""
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """Its port."""
        return self._port

    def start(self) -> None:
        """Answer requests, on the port it had before if it had one."""
        self.stopping.clear()
        self._http = _Http(("127.0.0.1", self._port), Handler)
        self._http.kube = self
        self._port = self._http.server_port
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), name=THREAD, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """As a new one, at the same address: with the namespace "default" and nothing else, and well. It is started if
        it was stopped."""
        self._disconnect()
        self.faults.clear()
        self.denied.clear()
        self.requests.clear()
        self._empty()
        if self._http is None:
            self.start()

    def stop(self) -> None:
        """End all connections and answer no more."""
        if self._http is None or self._thread is None:
            return
        self.stopping.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._disconnect()
        self._http = None
        for condition in (self.store.changed, self.logs.changed):
            with condition:
                condition.notify_all()

    def restart_after(self, seconds: float) -> threading.Thread:
        """Stop now, and start again in a thread after some seconds; join it."""
        self.stop()

        def start() -> None:
            time.sleep(seconds)
            self.start()

        thread = threading.Thread(target=start)
        thread.start()
        return thread

    def deny(self, verb: str, resource: str, namespace: str = "") -> None:
        """Refuse a verb on a resource ("rayjobs", "pods/log"); "*": each."""
        self.denied.add((verb, resource, namespace))

    def is_allowed(self, verb: str, resource: str, namespace: str) -> bool:
        """Whether those who ask may."""
        return not any(
            one in ("*", verb) and two in ("*", resource) and three in ("", namespace)
            for one, two, three in self.denied
        )

    def remove_group(self, group: str) -> None:
        """As if KubeRay ("ray.io") or Kueue ("kueue.x-k8s.io") had never been installed."""
        self.store.kinds = tuple(kind for kind in self.store.kinds if group_of(kind) != group)

    def serve_other_version(self, group: str, version: str) -> None:
        """Serve a group in another version only: "v1alpha1"."""
        self.store.kinds = tuple(
            Kind(f"{group}/{version}", kind.name, kind.plural, kind.namespaced) if group_of(kind) == group else kind
            for kind in self.store.kinds
        )

    def kubeconfig(
        self, folder: Path, *, token: str = "a-token-of-tests", namespace: str | None = None, **user: Any
    ) -> Path:
        """A kubeconfig with one context "test", for this server; `user`: its user's fields, instead of a token."""
        context = {"cluster": "test", "user": "tester"} | ({"namespace": namespace} if namespace else {})
        cluster = {"server": self.url} | (
            {"certificate-authority": str(self._certificate)} if self._certificate else {}
        )
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": context}],
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "tester", "user": user or {"token": token}}],
        }))  # fmt: skip
        return path

    def count(self, verb: str, path: str = "") -> int:
        """How many requests of a verb there were, whose path contains a regular expression."""
        return sum(one == verb and bool(re.search(path, two)) for one, two in self.requests)

    def opened(self, connection: socket.socket) -> None:
        """A handler has a connection."""
        with self._lock:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """A handler has none any more."""
        with self._lock:
            self._connections.discard(connection)

    def _empty(self) -> None:
        self.store = ObjectStore()
        self.logs = Logs()
        self.tokens: dict[str, str] = {"a-token-of-tests": "system:serviceaccount:default:tester"}
        """Tokens that are accepted, with whose they are."""
        self.add_namespace("default")

    def _disconnect(self) -> None:
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def add_namespace(self, name: str) -> Object:
        """A namespace."""
        return self.store.create(NAMESPACE, "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
