"""Ports for servers of tests."""

import socket
from contextlib import ExitStack


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    return free_ports(1, address)[0]


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """So many different ones."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server((address, 0))) for _ in range(count)]
        return [int(each.getsockname()[1]) for each in sockets]
