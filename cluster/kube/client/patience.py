"""How long an API server is waited for, and how often it is asked again."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

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
