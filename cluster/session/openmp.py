"""How long OpenMP's threads spin before they sleep, set before a process loads the library.

OpenMP's threads wait for each other many times in every layer, and by default they spin while they wait. Beside other
busy processes a spinning thread takes the core of the very thread that it waits for. With a bounded spin the step of a
process alone on its cores is as fast as before (`benchmarks/waiting_threads.py`).
"""

import os
from collections.abc import Mapping, MutableMapping

WAIT_POLICY = "OMP_WAIT_POLICY"
BOUNDED_SPINNING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
"""GNU's library, which torch's wheels for Linux bring, counts rounds; Intel's and LLVM's count milliseconds."""


def bounded_spinning(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables to set in a process whose environment this is: none that the user has set, and none at all where
    the user has set OMP_WAIT_POLICY, which they would override."""
    if WAIT_POLICY in environment:
        return {}
    return {name: value for name, value in BOUNDED_SPINNING.items() if name not in environment}


def bound_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set them in this process, and so in those that it starts.

    The library reads its environment once, when it is loaded: call this before torch is imported.
    """
    environment.update(bounded_spinning(environment))
