"""Says that storage is away, and that it is there again, while others work with it."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic

from cluster.errors import StorageError, StorageOutageError
from cluster.storage.outage import Say
from cluster.storage.store import Store

_EVERY_S = 1.0
_EVERY_REQUEST_S = 10.0
"""Of an object store, which may charge for each."""
_LAST_LOOK_S = 1.0


@contextmanager
def storage_watched(store: Store, say: Say, every_s: float | None = None) -> Generator[None]:
    """Within, a thread looks now and then whether the store is there, as this machine sees it. Writes nothing.

    Workers wait by themselves. Where they cannot write, they cannot tell in the run's status, so it is told here.
    """
    pause_s = every_s or (_EVERY_REQUEST_S if store.local_path is None else _EVERY_S)
    ended = threading.Event()
    # A look may last as long as a server's answer: the command does not wait for the last one.
    thread = threading.Thread(target=_look, args=(store.impatient(), say, pause_s, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_LAST_LOOK_S)


def _look(store: Store, say: Say, pause_s: float, ended: threading.Event) -> None:
    away_since = None
    while not ended.wait(pause_s):
        try:
            store.look()
        except StorageOutageError as error:
            if away_since is None:
                away_since = monotonic()
                say(f"storage is away: {error}; work goes on, and what is to be stored waits")
            continue
        except StorageError:
            pass  # it answers; whoever uses it hears why not
        if away_since is not None:
            say(f"storage is there again after about {monotonic() - away_since:.0f} s")
            away_since = None
