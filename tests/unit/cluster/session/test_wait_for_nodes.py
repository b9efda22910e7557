"""Room for workers is counted node by node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ResourceError
from cluster.session.resources import WorkerPlan
from cluster.session.wait_for_nodes import require_room

nodes = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4).map(float)), max_size=4)


@given(nodes, st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_there_is_room_exactly_where_workers_can_be_placed_one_by_one(
    there: list[tuple[int, float]], workers: int, cpus: int, use_gpu: bool
) -> None:
    free, placed = [list(node) for node in there], 0
    while node := next((node for node in free if node[0] >= cpus and (not use_gpu or node[1] >= 1)), None):
        node[0] -= cpus
        node[1] -= 1 if use_gpu else 0
        placed += 1
    plan = WorkerPlan(workers, use_gpu, cpus)
    if placed >= workers:
        require_room(plan, there)
    else:
        with pytest.raises(ResourceError, match=f"{workers} workers of {cpus} CPUs.*there is room for {placed}, on"):
            require_room(plan, there)
