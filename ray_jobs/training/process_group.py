"""torch's process group among Ray Train's workers, with a rendezvous that listens on one address only.

Ray's own set-up lets torch's TCPStore listen on every interface of rank zero's node. Here rank zero binds it to the
address under which Ray knows the node, which is 127.0.0.1 in an embedded Ray, and tells the others the port.
"""

# Ray's and torch's names here carry no types.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportPrivateImportUsage=false

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import psutil
import ray.train
import ray.train.collective
import ray.util
import torch.distributed as dist

_TIMEOUT = timedelta(minutes=30)


@contextmanager
def process_group(use_gpu: bool) -> Generator[None]:
    """Within, all workers are in torch's default process group: NCCL on GPUs, else gloo. Every worker enters it."""
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    if not use_gpu:
        choose_interface(ray.util.get_node_ip_address())
    store = _store(rank, world_size)
    dist.init_process_group(
        "nccl" if use_gpu else "gloo", store=store, rank=rank, world_size=world_size, timeout=_TIMEOUT
    )
    yield
    # Not after an error: others may wait in a collective, and waiting for them would hide it. Ray ends the processes.
    dist.destroy_process_group()


def choose_interface(address: str) -> None:
    """Let gloo listen on this process's own `address`, unless GLOO_SOCKET_IFNAME says otherwise.

    By default gloo resolves the host's name, which in containers often gives an address that no other node reaches.
    """
    if (name := interface_of(address)) is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def interface_of(address: str) -> str | None:
    """The network interface that has an address; None where there is none, as behind NAT."""
    for name, addresses in psutil.net_if_addrs().items():
        # An IPv6 address may carry its zone: fe80::1%eth0.
        if any(each.address.partition("%")[0] == address for each in addresses):
            return name
    return None


def serve_store(host: str, world_size: int, timeout: timedelta) -> tuple[dist.TCPStore, int]:
    """Rank zero's side of a rendezvous, which listens on `host` only, and the port that the others need."""
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = int(listener.getsockname()[1])
    store = dist.TCPStore(
        host,
        port,
        world_size,
        is_master=True,
        timeout=timeout,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    return store, port


def join_store(host: str, port: int, world_size: int, timeout: timedelta) -> dist.TCPStore:
    """Another rank's side of a rendezvous."""
    return dist.TCPStore(host, port, world_size, is_master=False, timeout=timeout)


def _store(rank: int, world_size: int) -> dist.TCPStore:
    if rank > 0:
        host, port = ray.train.collective.broadcast_from_rank_zero(("", 0))
        return join_store(host, port, world_size, _TIMEOUT)
    host = ray.util.get_node_ip_address()
    store, port = serve_store(host, world_size, _TIMEOUT)
    ray.train.collective.broadcast_from_rank_zero((host, port))
    return store
