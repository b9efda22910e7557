"""The process that `doctor` starts on each node of a cluster: it answers questions until it is ended."""

import os
import socket
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from cluster.health import preflight
from cluster.health.marks import Mark, unseen
from cluster.health.peer_links import Address, Link, Listener, interface_to, rate, reach
from cluster.health.preflight import Check
from cluster.session.resources import local_resources
from ray_jobs.doctor.all_reduce import AllReduceTiming, time_all_reduce
from ray_jobs.doctor.machine import check_dali
from ray_jobs.job.config import JobConfig

_RATE_BYTES = 1 << 26
_RATE_S = 0.5


class NodeAgent:
    """Lives in an actor. Its threads end with its process; `remove_mark` removes the file it wrote."""

    def __init__(self, address: str) -> None:
        self._address = address  # as Ray knows this node
        self._listener: Listener | None = None
        self._mark: Mark | None = None
        self._store: Any = None

    def checks(self, job: JobConfig, gpus_in_ray: int) -> list[Check]:
        """The checks of a single machine, except storage, which takes all nodes to check."""
        cpus, gpus = local_resources(job.cluster)
        remedy = "free space there, or set TMPDIR and Ray's --temp-dir to a larger place"
        return [
            preflight.check_python(),
            *preflight.check_packages(),
            preflight.check_cpus(cpus),
            preflight.check_waiting_threads(),
            preflight.check_memory(),
            preflight.check_shared_memory(),
            preflight.check_disk(tempfile.gettempdir(), "scratch disk", remedy),
            preflight.check_gpus(gpus, wanted=None),
            *preflight.check_gpus_in_ray(gpus_in_ray, gpus),
            preflight.check_driver(gpus),
            preflight.check_nccl(gpus),
            check_dali(on_gpu=gpus > 0 and job.cluster.use_gpu is not False),
        ]

    def now(self) -> float:
        """This node's clock."""
        return time.time()

    def write_mark(self, root: str, token: str, owner: str) -> None:
        """Write a mark at the storage root. Raises StorageError."""
        self._mark = Mark(root, token, owner)
        self._mark.write()

    def unseen(self, root: str, token: str, owners: list[str]) -> dict[str, str]:
        """The owners whose marks cannot be read at the storage root, and why. Raises StorageError."""
        return unseen(root, token, owners)

    def remove_mark(self) -> None:
        """Remove the mark. Raises StorageError."""
        if self._mark is not None:
            self._mark.remove()

    def remove_folders(self) -> None:
        """Remove the folders that were made for the mark."""
        if self._mark is not None:
            self._mark.remove_folders()

    def listen(self, token: bytes) -> Address:
        """Start a listener for the other nodes. Raises OSError."""
        self._listener = Listener(self._address, token)
        return self._listener.address

    def reach(self, peers: Mapping[str, Address], token: bytes, timeout_s: float) -> dict[str, Link]:
        """The links to other nodes."""
        return reach(peers, token, timeout_s)

    def rate(self, peer: Address, token: bytes) -> float:
        """Bytes a second to another node. Raises OSError."""
        return rate(peer, token, _RATE_BYTES, _RATE_S)

    def gloo_address(self) -> tuple[str, str]:
        """The interface or address on which gloo listens here in a job, and the one with the node's own address."""
        from ray_jobs.training.process_group import interface_of

        chosen = os.environ.get("GLOO_SOCKET_IFNAME") or interface_of(self._address)
        try:
            host = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)[0][4][0]
        except OSError:
            host = "127.0.0.1 (the host name has no address)"
        return chosen or str(host), interface_to(self._address)

    # Torch is imported inside: the machine that runs the command also loads this class and may have no torch.
    def serve_rendezvous(self, ranks: int, timeout_s: float) -> Address:
        """Open the rendezvous of a group, as its rank zero. Raises OSError."""
        from ray_jobs.training.process_group import serve_store

        self._store, port = serve_store(self._address, ranks, timedelta(seconds=timeout_s))
        return Address(self._address, port)

    def all_reduce(
        self, place: Address, rank: int, ranks: int, device: int | None, timeout_s: float
    ) -> tuple[AllReduceTiming, ...]:
        """Join the other ranks and time their sums. Raises RuntimeError."""
        from ray_jobs.training.process_group import choose_interface, join_store

        timeout = timedelta(seconds=timeout_s)
        if device is None:
            choose_interface(self._address)
        try:
            store = self._store if rank == 0 else join_store(place.host, place.port, ranks, timeout)
            return time_all_reduce(store, rank, ranks, device, timeout)
        except RuntimeError as error:
            raise RuntimeError(str(error)) from None  # the reader may lack torch and its exception class
