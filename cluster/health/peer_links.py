"""Plain TCP between nodes: who reaches whom, from which interface, how quickly and at which rate.

Gradients go the same way, and a collective that hangs says nothing of this.
"""

import hmac
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import psutil

_TOKEN_BYTES = 16
_LENGTH_BYTES = 8
_MOST_BYTES = 1 << 28
_CHUNK = 1 << 20
_SILENCE_S = 10.0
_KNOCKS = 3


@dataclass(frozen=True)
class Address:
    """Where a node's listener is."""

    host: str
    port: int


@dataclass(frozen=True)
class Link:
    """One node's way to another."""

    interface: str
    """The own interface that leads there, with its address: eth0 (10.0.0.2)."""
    seconds: float | None
    """A message there and back, the quickest of some; None where the other was not reached."""
    error: str = ""


class Listener:
    """Answers whoever knows the token, on one address, until it is closed. A context manager."""

    def __init__(self, host: str, token: bytes) -> None:
        self._token = token
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family, backlog=256)
        self.address = Address(host, int(self._socket.getsockname()[1]))
        self._thread = threading.Thread(target=self._accept, name="doctor-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; whoever is being answered is answered to the end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(_SILENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._answer, args=(connection,), name="doctor-answer", daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):
            connection.settimeout(_SILENCE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not hmac.compare_digest(_read(connection, _TOKEN_BYTES), self._token):
                return
            while length := connection.recv(_LENGTH_BYTES, socket.MSG_WAITALL):
                _drain(connection, int.from_bytes(length, "big"))
                connection.sendall(b"\1")


def reach(peers: Mapping[str, Address], token: bytes, timeout_s: float) -> dict[str, Link]:
    """The links to all peers, asked at once; no longer than about `timeout_s`."""
    with ThreadPoolExecutor(max_workers=min(max(len(peers), 1), 64)) as pool:
        asked = {name: pool.submit(_knock, peer, token, timeout_s) for name, peer in peers.items()}
        return {name: each.result() for name, each in asked.items()}


def rate(peer: Address, token: bytes, most_bytes: int, most_s: float) -> float:
    """Bytes a second to a peer, of `most_bytes` or of what passes in about `most_s`. Raises OSError."""
    chunk = bytes(min(_CHUNK, most_bytes))
    with _connected(peer, token, _SILENCE_S) as connection:
        _ask(connection, chunk)  # past TCP's slow start, in part
        sent, began = 0, time.monotonic()
        while sent < most_bytes and time.monotonic() - began < most_s:
            _ask(connection, chunk)
            sent += len(chunk)
        return sent / max(time.monotonic() - began, 1e-9)


def interface_to(host: str) -> str:
    """The own interface from which packets to `host` leave, with its address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # sends nothing
        except OSError as error:
            return f"no interface ({error.strerror})"
        own = str(probe.getsockname()[0])
    names = [name for name, found in psutil.net_if_addrs().items() if any(each.address == own for each in found)]
    return f"{names[0] if names else 'an unnamed interface'} ({own})"


def _knock(peer: Address, token: bytes, timeout_s: float) -> Link:
    interface = interface_to(peer.host)
    try:
        with _connected(peer, token, timeout_s) as connection:
            took: list[float] = []
            for _ in range(_KNOCKS):
                began = time.monotonic()
                _ask(connection, b"")
                took.append(time.monotonic() - began)
        return Link(interface, min(took))
    except TimeoutError:
        return Link(interface, None, f"no answer within {timeout_s:g} s")
    except OSError as error:
        return Link(interface, None, error.strerror or str(error))


def _connected(peer: Address, token: bytes, timeout_s: float) -> socket.socket:
    connection = socket.create_connection((peer.host, peer.port), timeout=timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(token)
    return connection


def _ask(connection: socket.socket, data: bytes) -> None:
    connection.sendall(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
    if not connection.recv(1):
        raise ConnectionResetError("the other side hung up")


def _read(connection: socket.socket, count: int) -> bytes:
    data = connection.recv(count, socket.MSG_WAITALL)
    if len(data) < count:
        raise ConnectionResetError("the other side hung up")
    return data


def _drain(connection: socket.socket, count: int) -> None:
    if count > _MOST_BYTES:
        raise ValueError(f"{count} bytes are more than {_MOST_BYTES}")
    buffer = memoryview(bytearray(min(count, _CHUNK)))
    while count:
        got = connection.recv_into(buffer[: min(count, _CHUNK)])
        if not got:
            raise ConnectionResetError("the other side hung up")
        count -= got
