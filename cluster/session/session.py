"""The Ray that a command uses: an embedded one for the length of the command, or one that already runs."""

import atexit
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ray
from ray._private import ray_constants
from ray._private.worker import global_worker
from ray._raylet import Config  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]

from cluster.config import ClusterConfig
from cluster.errors import RayNotStartedError, ResourceError
from cluster.session.environment import environment, environment_defaults
from cluster.session.liveness import silent_for_s, watched_liveness
from cluster.session.openmp import bounded_spinning
from cluster.session.resources import local_resources
from cluster.session.scratch import scratch_folder
from cluster.session.servers import answering_sigterm, end_unready, naming_death, shut_down, silent

_LOOPBACK = "127.0.0.1"
_LONGEST_FOLDER = 30
"""Ray's sockets lie below its folder, and Linux bounds their paths to 107 bytes."""
UNWATCHED = {
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "3600000",
}
"""An embedded Ray has no dashboard. The measurements that its processes would make for one take 2 % of a core. Without
them it offers neither metrics nor a list of tasks."""
AS_URGENT = {"RAY_worker_niceness": "0"}
"""Ray's workers have niceness 15, with which a process that shares a core with another gets a thirtieth of it. What a
command computes is as urgent as the command itself: `nice resnet-dist train` makes it less so."""


@contextmanager
def ray_session(cluster: ClusterConfig) -> Generator[None]:
    """Within, Ray is initialised. An embedded Ray listens on 127.0.0.1 only, and ends with the block, files and all.

    A Ray that this process has already initialised is used and left as it is, and so is the Ray at `cluster.address`.
    Raises ResourceError when there is no Ray at that address, RayNotStartedError where an embedded one does not
    come up.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with _embedded(cluster) if cluster.address is None else _connected(cluster.address):
        yield


def cluster_resources() -> tuple[int, int]:
    """CPUs and GPUs of the whole Ray that this process is connected to."""
    total: Mapping[str, float] = ray.cluster_resources()  # pyright: ignore[reportUnknownVariableType]
    return int(total.get("CPU", 0)), int(total.get("GPU", 0))


@contextmanager
def _embedded(cluster: ClusterConfig) -> Generator[None]:
    _require_token()
    # An embedded Ray never joins another one.
    own = UNWATCHED | AS_URGENT | bounded_spinning(os.environ)
    with (
        # Everybody can read Ray's own folder, so the folder above it belongs to this user alone.
        scratch_folder("rd-ray-", _short_folder()) as folder,
        environment({"RAY_ADDRESS": None}),
        environment_defaults(own),
        _loopback_only(),
        silent(),
    ):
        try:
            found = _started(cluster, folder)
            if found["node_ip_address"] != _LOOPBACK:
                raise ResourceError(f"the embedded Ray listens on {found['node_ip_address']}, not on {_LOOPBACK} alone")
            _end_log_monitor()
            # Code that looks for a cluster finds this one, whatever else runs on the host.
            with environment({"RAY_ADDRESS": found["address"]}), naming_death():
                yield
        finally:
            shut_down(folder)


def _started(cluster: ClusterConfig, folder: Path) -> dict[str, str]:
    """Start Ray; its addresses. Raises RayNotStartedError where it does not come up, as on a busy machine."""
    cpus = local_resources(cluster)[0]
    try:
        with answering_sigterm():
            context = ray.init(
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                _node_ip_address=_LOOPBACK,
                _temp_dir=str(folder / "r"),
            )
    except Exception as error:  # Ray's own are of no other type
        end_unready(folder)
        raise RayNotStartedError(f"Ray did not start: {str(error).strip().partition(chr(10))[0]}") from error
    return cast("dict[str, str]", context.address_info)  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def _connected(address: str) -> Generator[None]:
    try:
        with answering_sigterm():
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ResourceError(
            f"cluster.address={address}: no Ray answers there ({error}); leave it unset for an embedded Ray"
        ) from error
    with watched_liveness():
        try:
            yield
        finally:
            if silent_for_s() is None:
                ray.shutdown()
            else:
                # It would wait until Ray ends this process, which has something to say before.
                leave = cast("Callable[[], None]", ray.shutdown)
                atexit.unregister(leave)
                threading.Thread(target=leave, daemon=True, name="ray-shutdown").start()


def _end_log_monitor() -> None:
    """The log monitor looks for workers' lines ten times a second, for drivers that show them. Ours does not; other
    drivers that join see none."""
    node: Any = global_worker.node
    node.kill_log_monitor(check_alive=False)


def _require_token() -> None:
    """Prevent others on this machine from running code in an embedded Ray, without a token in the home folder.

    The token stays in this process's environment: Ray keeps it for the process, whatever is set later.
    """
    if os.environ.setdefault("RAY_AUTH_MODE", "token") == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    Config.initialize("")  # reads the mode again, as Ray's own start does


@contextmanager
def _loopback_only() -> Generator[None]:
    """Keep 127.0.0.1, which Ray replaces by an address that others can reach unless it runs without a cluster.

    A constant says so in this process; the processes that Ray starts read it from a variable."""
    before: bool = ray_constants.ENABLE_RAY_CLUSTER  # pyright: ignore[reportUnknownVariableType]
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with environment({"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _short_folder() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= _LONGEST_FOLDER else "/tmp"  # noqa: S108 - the name in it is random
