"""How busy the machine is with other work, which figures are measured beside. Torch-free."""

import os
import time
from pathlib import Path

from resnet_dist.runtime.engines import usable_cores

CALM = 0.5
"""Cores taken by other work up to which figures are believed."""
_LOOK_S = 0.5


def busy() -> str | None:
    """What to know of figures that are taken now, where other work takes more than half a core; else None.

    Turns spread other load evenly over time and not over runtimes: PyTorch's threads wait for each other by spinning,
    and lose far more of their speed than the others when one of them is not given a core.
    """
    load = cores_in_use()
    if load <= CALM:
        return None
    return (
        f"other work keeps {load:.1f} of {usable_cores()} cores busy: PyTorch suffers more from it than formats do, "
        "and ratios come out too high; repeat this on an idle machine"
    )


def cores_in_use(seconds: float = _LOOK_S) -> float:
    """By others than this thread, which sleeps meanwhile; 0 where the system does not say (no /proc).

    Not the load average: it remembers for a minute what has ended since, such as the formats' own building.
    """
    first = jiffies()
    time.sleep(seconds)
    last = jiffies()
    if first is None or last is None or last[1] == first[1]:
        return 0.0
    return (os.cpu_count() or 1) * (last[0] - first[0]) / (last[1] - first[1])


def jiffies() -> tuple[int, int] | None:
    """Of all cores since the system was started: spent on work, and in all."""
    try:
        fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(fields) - fields[3] - fields[4], sum(fields)  # idle, and waiting for disks
