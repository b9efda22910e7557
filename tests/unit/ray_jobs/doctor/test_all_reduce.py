import json
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from ray_jobs.doctor.all_reduce import AllReduceTiming, time_all_reduce
from ray_jobs.training.process_group import serve_store

RANK = """
import json, sys
from dataclasses import asdict
from datetime import timedelta
from ray_jobs.doctor import all_reduce
from ray_jobs.training.process_group import join_store, serve_store

all_reduce._LONGEST_S = 0.5  # of a size: what is measured is as true of few rounds
rank, ranks, timeout = int(sys.argv[1]), 2, timedelta(seconds=60)
if rank == 0:
    store, port = serve_store("127.0.0.1", ranks, timeout)
    print(port, flush=True)
else:
    store = join_store("127.0.0.1", int(sys.argv[2]), ranks, timeout)
print(json.dumps([asdict(each) for each in all_reduce.time_all_reduce(store, rank, ranks, None, timeout)]))
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RANK, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[4],
    )


@pytest.mark.slow
def test_both_ranks_report_the_same_times() -> None:
    with start(0) as first:
        assert first.stdout is not None
        with start(1, first.stdout.readline().strip()) as second:
            one, other = first.communicate(timeout=120)[0], second.communicate(timeout=120)[0]
    assert one == other
    timings = [AllReduceTiming(**each) for each in json.loads(one)]
    assert timings[0].size == 4
    assert [each.size for each in timings] == sorted(each.size for each in timings)
    assert all(0 < each.seconds < 60 and each.ranks == 2 for each in timings)


def test_a_rank_that_never_comes_ends_it_in_time() -> None:
    timeout = timedelta(seconds=1)
    store, _ = serve_store("127.0.0.1", 2, timeout)
    began = time.monotonic()
    with pytest.raises(RuntimeError):
        time_all_reduce(store, 0, 2, None, timeout)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(("ranks", "bus"), [(1, 0.0), (2, 100.0), (4, 150.0), (8, 175.0)])
def test_bandwidths_are_those_of_nccl_tests(ranks: int, bus: float) -> None:
    timing = AllReduceTiming(size=1000, seconds=10.0, ranks=ranks)
    assert timing.algorithm_bandwidth == 100.0
    assert timing.bus_bandwidth == pytest.approx(bus)
