"""A server that does not answer: what is worth another try, when, and for how long."""

import logging
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.errors import TargetUnreachableError
from cluster.kube.client.refusal import Status

_LOGGER = logging.getLogger(__name__)
_UNMENTIONED_S = 10
"""A restart of a few seconds is nobody's business."""


_CHANCE = secrets.SystemRandom()


@dataclass(frozen=True)
class Patience:
    """Times in seconds. The defaults outlast the restart of a control plane."""

    outage_s: float = 300
    """A server that has answered before may be away for so long."""
    unknown_s: float = 30
    """One that has never answered: more often its address is wrong."""
    first_pause_s: float = 0.5
    longest_pause_s: float = 20
    connect_s: float = 10
    read_s: float = 60
    """For an answer, and for each part of one."""
    silent_log_s: float = 60
    """A log that is silent for so long is asked for again from where it was."""

    def pauses(self) -> Iterator[float]:
        """Growing pauses between tries, each by chance shorter, so that many clients do not come back at once."""
        pause = self.first_pause_s
        while True:
            yield pause * _CHANCE.uniform(0.5, 1)
            pause = min(pause * 2, self.longest_pause_s)


class RefusedError(Exception):
    """The server's answer is no."""

    def __init__(self, status: Status) -> None:
        super().__init__(f"{status.code} {status.reason} {status.message}".replace("  ", " "))
        self.status = status


class BrokenError(Exception):
    """No answer, or one that ends early; the request may have been carried out all the same."""


class Outage:
    """Tries in a row that were not answered."""

    def __init__(self, server: str, patience: Patience, limit_s: float) -> None:
        self._server = server
        self._limit_s = limit_s
        self._pauses = patience.pauses()
        self._began = time.monotonic()
        self._is_mentioned = False

    def pause(self) -> None:
        """Pause before a try that is expected to go well."""
        time.sleep(next(self._pauses))

    def wait(self, error: RefusedError | BrokenError) -> None:
        """Pause after a try that failed. Raises the error itself if no other try can go better, and
        TargetUnreachableError if this has gone on for too long."""
        retry_after_s = None
        if isinstance(error, RefusedError):
            if not error.status.is_passing:
                raise error
            retry_after_s = error.status.retry_after_s
        pause = next(self._pauses) if retry_after_s is None else retry_after_s
        away_s = time.monotonic() - self._began
        if away_s + pause > self._limit_s:
            asks = f", which asks to wait for {retry_after_s:g} s" if retry_after_s else ""
            raise TargetUnreachableError(
                f"the Kubernetes API server {self._server} has not answered for {away_s:.0f} s: {error}{asks}; "
                "see whether it is up and reached from here (kubectl version), then run the same command again"
            ) from None
        if away_s > _UNMENTIONED_S and not self._is_mentioned:
            self._is_mentioned = True
            _LOGGER.warning(
                "%s does not answer (%s); trying for %.0f s more", self._server, error, self._limit_s - away_s
            )
        time.sleep(pause)
