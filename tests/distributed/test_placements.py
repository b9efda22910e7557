"""What a dead actor had reserved is free again."""

import os
import time
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from cluster.session.placement_groups import remove_orphans

pytestmark = pytest.mark.usefixtures("shared_ray")


class Controller:
    """Reserves CPUs, as Ray Train's controller does for its workers."""

    def reserve(self, cpus: int) -> None:
        ray.get(placement_group([{"CPU": 1.0}] * cpus).ready())

    def die(self) -> None:
        os._exit(1)


def test_reservations_of_the_dead_are_removed_and_those_of_the_living_are_not() -> None:
    own = placement_group([{"CPU": 1.0}])  # a driver's, as Ray Tune makes for its trials
    ray.get(own.ready())
    kind: Any = ray.remote(Controller)
    dead, alive = (kind.options(num_cpus=0).remote() for _ in range(2))
    ray.get([dead.reserve.remote(2), alive.reserve.remote(1)])
    assert remove_orphans() == 0
    dead.die.remote()
    deadline = time.monotonic() + 60
    while remove_orphans() == 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ray.get(alive.reserve.remote(2), timeout=60)
    ray.kill(alive)
    freed = 0
    while (freed := freed + remove_orphans()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert remove_orphans() == 0
    assert placement_group_table(own)["state"] == "CREATED"
    remove_placement_group(own)
