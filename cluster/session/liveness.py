"""Whether a Ray that others have started still answers. If it does not, Ray itself ends this process after a minute."""

# Ray's store carries no types here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportPrivateUsage=false

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

from ray.experimental import internal_kv

_ASK_EVERY_S = 5.0
_RAYS_PATIENCE_S = 60.0
_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
_BEFORE_RAY_S = 15.0
"""How long before Ray ends this process it is given up: there must be time to write down how the work ended."""

_answered_s: float | None = None
"""When the Ray that this process is connected to answered last; None without one that others have started."""
_at_once = threading.Event()
"""Set where somebody waits for the next answer."""
_LOOK_EVERY_S = 0.05


@contextmanager
def watched_liveness() -> Generator[None]:
    """Within, a thread asks Ray for a sign of life now and then."""
    global _answered_s  # noqa: PLW0603 - like the connection to Ray, it is one for the process
    ended = threading.Event()

    def ask() -> None:
        global _answered_s  # noqa: PLW0603
        while not ended.is_set():
            _at_once.wait(_ASK_EVERY_S)
            _at_once.clear()
            with suppress(Exception):  # no answer is what is looked for
                internal_kv._internal_kv_exists("liveness", namespace="resnet-dist")
                if not ended.is_set():
                    _answered_s = time.monotonic()

    _answered_s = time.monotonic()
    thread = threading.Thread(target=ask, daemon=True, name="liveness")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        _at_once.set()
        _answered_s = None


def silent_for_s() -> float | None:
    """How long it has not answered, where that is too long; None while it lives."""
    if _answered_s is None:
        return None
    patience = float(os.environ.get(_PATIENCE, _RAYS_PATIENCE_S)) - _BEFORE_RAY_S
    silence = time.monotonic() - _answered_s
    return silence if silence > max(patience, 2.0 * _ASK_EVERY_S) else None


def wait_for_answer() -> None:
    """Return once it has answered anew, or has been silent for too long; at once where others have not started it."""
    asked_s = time.monotonic()
    _at_once.set()
    while _answered_s is not None and _answered_s < asked_s and silent_for_s() is None:
        time.sleep(_LOOK_EVERY_S)
