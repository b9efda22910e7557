"""Plain TCP between nodes: which node reaches which, from which interface, how quickly and at which rate.

Gradients take the same way, and a collective that hangs does not say why.
"""

import hmac
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import psutil

from cluster.health.preflight import Check, NodeCheck, some

_TOKEN_BYTES = 16
_LENGTH_BYTES = 8
_MOST_BYTES = 1 << 28
_CHUNK = 1 << 20
_SILENCE_S = 10.0
_KNOCKS = 3
_SLOW_SHARE = 0.25
_FEWEST_TO_COMPARE = 3
_NETWORK_REMEDY = "let nodes reach each other on all TCP ports: firewall, security group, NetworkPolicy, routes"


@dataclass(frozen=True)
class Address:
    """The address of a node's listener."""

    host: str
    port: int


@dataclass(frozen=True)
class Link:
    """One node's connection to another."""

    interface: str
    """This node's interface that leads there, with its address: eth0 (10.0.0.2)."""
    seconds: float | None
    """The quickest of a few round trips; None if the other node was not reached."""
    error: str = ""


class Listener:
    """Answers clients that know the token, on one address, until it is closed. A context manager."""

    def __init__(self, host: str, token: bytes) -> None:
        self._token = token
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family, backlog=256)
        self.address = Address(host, int(self._socket.getsockname()[1]))
        self._thread = threading.Thread(target=self._accept, name="doctor-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; connections that are open are served to their end."""
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
    """The links to all peers, tried at the same time; takes no longer than about `timeout_s`."""
    with ThreadPoolExecutor(max_workers=min(max(len(peers), 1), 64)) as pool:
        knocks = {name: pool.submit(_knock, peer, token, timeout_s) for name, peer in peers.items()}
        return {name: each.result() for name, each in knocks.items()}


def rate(peer: Address, token: bytes, most_bytes: int, most_s: float) -> float:
    """Bytes a second to a peer: sends `most_bytes`, or as many as pass in about `most_s`. Raises OSError."""
    chunk = bytes(min(_CHUNK, most_bytes))
    with _connected(peer, token, _SILENCE_S) as connection:
        _ask(connection, chunk)  # past TCP's slow start, in part
        sent, began = 0, time.monotonic()
        while sent < most_bytes and time.monotonic() - began < most_s:
            _ask(connection, chunk)
            sent += len(chunk)
        return sent / max(time.monotonic() - began, 1e-9)


def check_links(
    links: Mapping[str, Mapping[str, Link]], addresses: Mapping[str, Address], rates: Mapping[str, Sequence[float]]
) -> list[NodeCheck]:
    """Which node reaches which. By name: a node's links to the others, its listener, rates of links that touch it."""
    shut = _unreachable(links)
    best = {name: max(found) for name, found in rates.items() if found}
    usual = statistics.median(best.values()) if best else 0.0
    is_slow = {name: len(best) >= _FEWEST_TO_COMPARE and best.get(name, usual) < _SLOW_SHARE * usual for name in links}
    checks: list[NodeCheck] = []
    for name, others in links.items():
        found = _reached(others) + (f"; {best[name] / 1e6:.0f} MB/s" if name in best else "")
        if name in shut:
            where = addresses[name]
            found = f"no other node reaches it at {where.host}:{where.port}"
            check = Check("network", "error", found, _NETWORK_REMEDY)
        elif broken := _broken(others, addresses, shut):
            check = Check("network", "error", f"does not reach {some(broken)}", _NETWORK_REMEDY)
        elif is_slow[name]:
            found += f", where the others have {usual / 1e6:.0f} MB/s"
            remedy = "every step waits for this node: check its network card, cable and neighbours, or remove it"
            check = Check("network", "warning", found, remedy)
        else:
            check = Check("network", "ok", found)
        checks.append(NodeCheck(name, check))
    return checks


def interface_to(host: str) -> str:
    """This node's interface from which packets to `host` leave, with its address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # sends nothing
        except OSError as error:
            return f"no interface ({error.strerror})"
        own = str(probe.getsockname()[0])
    names = [name for name, found in psutil.net_if_addrs().items() if any(each.address == own for each in found)]
    return f"{names[0] if names else 'an unnamed interface'} ({own})"


def _unreachable(links: Mapping[str, Mapping[str, Link]]) -> set[str]:
    """Nodes that are themselves at fault: more than one other node has tried to reach them, and none did."""
    tried = Counter(peer for others in links.values() for peer in others)
    missed = Counter(peer for others in links.values() for peer, link in others.items() if link.seconds is None)
    return {peer for peer, count in missed.items() if count == tried[peer] > 1}


def _reached(others: Mapping[str, Link]) -> str:
    reached = [link.seconds for link in others.values() if link.seconds is not None]
    slowest = f", the slowest in {1000 * max(reached):.2f} ms" if reached else ""
    return f"reaches {len(reached)} of {len(others)} nodes{slowest}"


def _broken(others: Mapping[str, Link], addresses: Mapping[str, Address], shut: Collection[str]) -> list[str]:
    """Links that do not pass, but for those to nodes that nobody reaches."""
    return [
        f"{peer} at {addresses[peer].host}:{addresses[peer].port} from {link.interface}: {link.error}"
        for peer, link in others.items()
        if link.seconds is None and peer not in shut
    ]


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
