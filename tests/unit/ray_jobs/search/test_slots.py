import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.config import ClusterConfig
from cluster.errors import ResourceError
from cluster.session.nodes import NodeCapacity
from ray_jobs.search.config import SearchConfig
from ray_jobs.search.slots import plan_slots

NODES = st.lists(st.tuples(st.integers(0, 16), st.integers(0, 8).map(float)), min_size=1, max_size=4)


def plan(nodes: list[NodeCapacity], workers: int = 1, **settings: object) -> tuple[int, int, int]:
    """Workers of a trial, CPUs of each, slots."""
    in_cluster = {name: settings.pop(name) for name in list(settings) if name in ClusterConfig.model_fields}
    cluster = ClusterConfig.model_validate({"num_workers": workers} | in_cluster)
    found, slots = plan_slots(cluster, SearchConfig.model_validate({"trials": 99} | settings), nodes)
    return found.num_workers, found.cpus_per_worker, slots


CLUSTERS = st.builds(
    ClusterConfig,
    num_workers=st.integers(1, 6),
    cpus_per_worker=st.none() | st.integers(1, 5),
    use_gpu=st.none() | st.booleans(),
)
SEARCHES = st.builds(
    SearchConfig,
    workers_per_trial=st.none() | st.integers(1, 6),
    gpus_per_worker=st.floats(0.05, 1.0),
    max_concurrent_trials=st.none() | st.integers(1, 9),
    trials=st.integers(1, 40),
)


@given(NODES, CLUSTERS, SEARCHES)
@example([(16, 3.0)], ClusterConfig(num_workers=1, cpus_per_worker=1), SearchConfig(gpus_per_worker=0.3))
@example([(8, 2.0)], ClusterConfig(num_workers=1, cpus_per_worker=1), SearchConfig(gpus_per_worker=0.4))
def test_slots_never_take_more_than_there_is(nodes: list[NodeCapacity], cluster: ClusterConfig, search: SearchConfig):
    most, trials, share = search.max_concurrent_trials, search.trials, search.gpus_per_worker
    try:
        found, slots = plan_slots(cluster, search, nodes)
    except ResourceError:
        return
    assert found.num_workers == (search.workers_per_trial or cluster.num_workers)
    assert 1 <= slots <= min(most or trials, trials)
    assert found.use_gpu is (any(gpus for _, gpus in nodes) if cluster.use_gpu is None else cluster.use_gpu)
    # A worker lies on one node, and its share on one GPU.
    on_a_gpu = next(count for count in range(20, 0, -1) if count * share <= 1.0 + 1e-9)
    room = sum(
        min(node // found.cpus_per_worker, int(gpus) * on_a_gpu if found.use_gpu else node) for node, gpus in nodes
    )
    assert found.num_workers * slots <= room
    wanted = min(room // found.num_workers, most or trials, trials)
    assert slots == wanted


@pytest.mark.parametrize(("cpus", "slots"), [(1, 1), (2, 2), (3, 3)])
def test_on_cpus_each_core_trains_a_trial(cpus: int, slots: int):
    assert plan([(cpus, 0.0)]) == (1, 1, slots)


def test_workers_of_a_trial_share_the_cpus():
    assert plan([(2, 0.0)], workers=2) == (2, 1, 1)
    assert plan([(3, 0.0)], workers=2) == (2, 1, 1)
    assert plan([(8, 0.0)], workers=2, cpus_per_worker=2) == (2, 2, 2)
    assert plan([(8, 0.0)], workers=4, workers_per_trial=1) == (1, 1, 8)


def test_bounds_on_slots_hold():
    assert plan([(8, 0.0)], max_concurrent_trials=3) == (1, 1, 3)
    assert plan([(8, 0.0)], trials=2) == (1, 1, 2)


def test_each_gpu_trains_a_trial_with_its_part_of_the_cpus():
    assert plan([(16, 4.0)]) == (1, 4, 4)
    assert plan([(16, 4.0)], workers=2) == (2, 4, 2)
    assert plan([(16, 4.0)], use_gpu=False) == (1, 1, 16)


def test_nodes_without_a_gpu_take_nothing_from_those_with_one():
    assert plan([(16, 0.0), (8, 1.0), (8, 1.0)]) == (1, 8, 2)
    assert plan([(8, 2.0), (4, 2.0)]) == (1, 2, 4)


def test_a_fraction_of_a_gpu_is_shared():
    assert plan([(16, 2.0)], gpus_per_worker=0.5) == (1, 4, 4)
    assert plan([(16, 2.0)], gpus_per_worker=0.25) == (1, 2, 8)
    assert plan([(30, 1.0)], gpus_per_worker=0.1) == (1, 3, 10)
    assert plan([(49, 1.0)], gpus_per_worker=1 / 49) == (1, 1, 49)
    # Three shares of 0.3 fit a GPU, and none lies on two.
    assert plan([(18, 3.0)], gpus_per_worker=0.3) == (1, 2, 9)
    assert plan([(8, 2.0)], gpus_per_worker=0.6) == (1, 4, 2)


@pytest.mark.parametrize(
    ("nodes", "settings", "parts"),
    [
        ([(4, 2.0)], {"workers": 2, "gpus_per_worker": 0.5}, ["gpus_per_worker=0.5", "NCCL", "workers_per_trial=1"]),
        ([(4, 0.0)], {"use_gpu": True}, ["cluster.use_gpu=true", "use cluster.use_gpu=false"]),
        ([(2, 0.0), (2, 0.0)], {"cpus_per_worker": 4}, ["1 workers with 4 CPUs", "room for 0", "cluster.local_cpus=4"]),
        ([(1, 0.0)], {"workers": 2}, ["2 workers", "room for 1", "cluster.local_cpus=2"]),
        ([(1, 0.0)], {"workers": 2, "address": "auto"}, ["2 workers", "add nodes to the cluster"]),
        ([(8, 1.0)], {"workers": 2}, ["2 workers", "8 CPUs and 1 GPU", "room for 1"]),
        ([(0, 0.0)], {}, ["room for 0"]),
    ],
)
def test_what_never_fits_is_refused_with_what_would(
    nodes: list[NodeCapacity], settings: dict[str, object], parts: list[str]
):
    with pytest.raises(ResourceError) as caught:
        plan(nodes, **settings)  # pyright: ignore[reportArgumentType]
    for part in parts:
        assert part in str(caught.value)


def test_a_fraction_with_two_workers_is_fine_without_gpus():
    assert plan([(4, 0.0)], workers=2, gpus_per_worker=0.5) == (2, 1, 2)
