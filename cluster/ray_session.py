"""The Ray that a command runs on: an embedded one for its length, or one that runs already."""

import logging
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import ray

from cluster.config import ClusterConfig
from cluster.errors import ResourceError
from cluster.resources import local_resources


@contextmanager
def ray_session(cluster: ClusterConfig) -> Generator[None]:
    """Within, Ray is initialised. An embedded Ray listens on 127.0.0.1 only and ends, with its files, at the end.

    A Ray that this process has initialised before is used and left as it is; so is one at `cluster.address`.
    Raises ResourceError when there is no Ray at that address.
    """
    if ray.is_initialized():
        yield
        return
    # Set explicitly: Ray would otherwise write a token into the home folder. Loopback alone can reach it.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if cluster.address is not None:
        with _connected(cluster.address):
            yield
        return
    # A short path: Ray's sockets lie below it, and Linux bounds their paths to 107 bytes.
    folder = tempfile.mkdtemp(prefix="rd-ray-")
    address = os.environ.pop("RAY_ADDRESS", None)  # an embedded Ray never joins another one
    try:
        context = ray.init(
            num_cpus=local_resources(cluster)[0],
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        # Some of Ray's own actors look for a cluster by themselves, and with several on a host find the wrong one.
        os.environ["RAY_ADDRESS"] = str(context.address_info["address"])  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType]
        yield
    finally:
        ray.shutdown()
        os.environ.pop("RAY_ADDRESS", None)
        if address is not None:
            os.environ["RAY_ADDRESS"] = address
        shutil.rmtree(folder, ignore_errors=True)


def cluster_resources() -> tuple[int, int]:
    """CPUs and GPUs of the whole Ray that this process is connected to."""
    total: Mapping[str, float] = ray.cluster_resources()  # pyright: ignore[reportUnknownVariableType]
    return int(total.get("CPU", 0)), int(total.get("GPU", 0))


@contextmanager
def _connected(address: str) -> Generator[None]:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ResourceError(
            f"cluster.address={address}: no Ray answers there ({error}); leave it unset for an embedded Ray"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
