import json
import random
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from benchmarks.drawn_scores import drawn_scores
from benchmarks.latency_table import network_errors
from resnet_dist.compression.latency import block_graphs
from resnet_dist.compression.latency.measuring import Stopwatch, axis, distinct_blocks, measure_table
from resnet_dist.compression.latency.table import LatencyTable
from resnet_dist.compression.latency.timed_graphs import fingerprint, measure_whole, time_graphs
from resnet_dist.compression.planning.costs import summed_cost
from resnet_dist.compression.planning.options import Choices, WidthSpace
from resnet_dist.compression.planning.solve import solve_widths
from resnet_dist.compression.planning.target import LatencyEngine, Target
from resnet_dist.errors import RunError
from resnet_dist.model.architectures import Arch
from resnet_dist.model.layers import sites
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths
from tests.fuzzing import cases, damaged_json, fuzz

SIZE = (32, 32)


@cache
def table(arch: Arch = "resnet18", engine: LatencyEngine = "onnx") -> LatencyTable:
    return measure_table(Structure(arch), 10, SIZE, Stopwatch(engine, 1), points=2)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_the_network_itself_takes_what_was_measured_and_a_smaller_one_less(engine: LatencyEngine):
    found = table("resnet18", engine)
    own = found.structure.layer_widths
    assert found.cost(own) == pytest.approx(found.whole)
    assert 0.0 < found.overhead < found.whole
    halved = found.cost(Widths.of("resnet18", 0.5))
    assert 0.0 < found.cost(Widths.of("resnet18", 0.25)) <= halved <= found.whole
    assert found.seconds > 0.0


def test_it_is_read_back_on_this_machine_alone():
    found = table()
    here = fingerprint("onnx", 1)
    assert LatencyTable.load(found.to_text(), here) == found
    with pytest.raises(
        RunError,
        match=r"latency\.json was measured with onnx .* on 1 threads.*, and this is onnx .* "
        r"on 2 threads .*; measure it again on this machine",
    ):
        LatencyTable.load(found.to_text(), replace(here, threads=2), "latency.json")
    with pytest.raises(RunError, match="was measured with"):
        LatencyTable.load(found.to_text(), replace(here, cpu="another"))


def test_a_damaged_table_is_refused_in_one_sentence():
    found, here = table(), fingerprint("onnx", 1)
    value = json.loads(found.to_text())

    def make(draw: random.Random) -> Any:
        return damaged_json(draw, value)

    fuzz("latency table", cases(200, 5000), make, lambda data: LatencyTable.load(data, here), RunError)


def test_latency_is_a_target_like_others():
    found = table()
    space = WidthSpace(found.structure, SIZE, Choices("all"))
    widths = solve_widths(space, drawn_scores(found.structure, 0), found, Target.parse("latency=0.6x@onnx"))
    assert found.cost(widths) <= 0.6 * found.whole * (1 + 1e-9)
    assert summed_cost(found, found.structure, widths, SIZE) == found.cost(widths)


def test_grouped_blocks_are_measured_as_they_are():
    found = measure_table(Structure("resnext50_32x4d"), 10, SIZE, Stopwatch("onnx", 1), points=2)
    assert found.cost(found.structure.layer_widths) == pytest.approx(found.whole)
    assert all(each.channels is None for each in found.blocks)
    assert LatencyTable.load(found.to_text(), fingerprint("onnx", 1)) == found


@pytest.mark.parametrize(("arch", "kinds"), [("resnet18", 7), ("resnet34", 7), ("resnet50", 8), ("resnet152", 8)])
def test_each_kind_of_block_is_measured_once(arch: Arch, kinds: int):
    found = [site for site, _ in distinct_blocks(Structure(arch), SIZE)]
    assert len(found) == kinds
    alike = {(site.stage, site.inputs, site.outputs, site.stride) for site, _ in sites(Structure(arch), SIZE)}
    assert {(site.stage, site.inputs, site.outputs, site.stride) for site in found} == alike


def test_an_axis_ends_at_the_width_itself():
    assert axis(64, 8) == (16, 32, 48, 64)
    assert axis(512, 8) == (64, 128, 192, 256, 320, 384, 448, 512)
    assert axis(40, 4) == (16, 32, 40)
    assert axis(8, 4) == (8,)


def test_graphs_take_turns():
    graphs = {"small": block_graphs.shell_graph(16, (4, 4)), "large": block_graphs.shell_graph(256, (64, 64))}
    times = time_graphs(graphs, "onnx", 1, 5)
    assert {name: each.shape for name, each in times.items()} == {"small": (5,), "large": (5,)}
    medians = measure_whole(graphs, "onnx", 1)
    assert 0.0 < medians["small"] < medians["large"]


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is an extra")
def test_fingerprints_tell_engines_and_threads_apart():
    found = {fingerprint(engine, threads) for engine in ("onnx", "openvino") for threads in (1, 2)}
    assert len(found) == 4
    assert len({each.text for each in found}) == 4
    assert all(each.cores >= 1 and each.cpu for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_networks_that_were_not_measured_take_what_is_predicted(engine: LatencyEngine):
    stopwatch = Stopwatch(engine, 1)
    found = measure_table(Structure("resnet50"), 10, (128, 128), stopwatch)
    for name, errors in network_errors(found, stopwatch, 6).items():
        assert np.median(np.abs(errors)) < 0.1, (name, errors)
