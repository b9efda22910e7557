"""Measures a latency table. Torch-free. Open `measure_table` first.

Graphs of one shape take turns, call by call, so that other work on the machine slows them alike and none has the caches
to itself.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from resnet_dist.compression.latency import block_graphs
from resnet_dist.compression.latency.interpolation import Grid, monotone
from resnet_dist.compression.latency.table import SCHEMA, BlockTimes, LatencyTable
from resnet_dist.compression.latency.timed_graphs import fingerprint, measure_whole, time_graphs
from resnet_dist.compression.planning.target import LatencyEngine
from resnet_dist.export.benchmarking.machine_load import CALM, cores_in_use
from resnet_dist.model.architectures import SHAPES
from resnet_dist.model.layers import Site, sites
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import MULTIPLE

POINTS = 8
"""Widths an axis: for the widest layers every 64th channel. Measuring a ResNet-50 at 224 px takes about a minute."""
_LEAST_SHARE = 1 / 8
"""Of the architecture's own width: the smallest that is measured."""
_ROUNDS, _WHOLE_ROUNDS = 15, 15
_FASTEST = 0.1
"""The quantile of a part's rounds that is taken."""
_MOST_BYTES = 2**29
"""Of the graphs that take turns: engines keep their weights at least twice."""
_LEAST_MS = 1e-4


@dataclass(frozen=True)
class Stopwatch:
    """Measures in one engine."""

    engine: LatencyEngine
    threads: int

    def times(self, graphs: Iterable[tuple[str, bytes]]) -> dict[str, float]:
        """Milliseconds of each graph by its name, of rounds in which all take turns.

        Of the fastest rounds, not the median one: other work on the machine, which interrupts long calls more often
        than short ones, would make the parts' times no sum.
        """
        found = dict[str, float]()
        batch, total = dict[str, bytes](), 0
        for name, graph in graphs:
            if batch and total + len(graph) > _MOST_BYTES:
                found |= self._fastest(batch)
                batch, total = dict[str, bytes](), 0
            batch[name] = graph
            total += len(graph)
        return found | self._fastest(batch)

    def _fastest(self, graphs: Mapping[str, bytes]) -> dict[str, float]:
        times = time_graphs(graphs, self.engine, self.threads, _ROUNDS)
        return {name: float(np.quantile(each, _FASTEST)) for name, each in times.items()}


def measure_table(
    structure: Structure,
    classes: int,
    size: tuple[int, int],
    stopwatch: Stopwatch,
    points: int = POINTS,
    say: Callable[[str], None] = lambda _: None,
) -> LatencyTable:
    """Of a structure's architecture and gates, for images of `size` (height, width). `say` gets a line a part.

    `points`: widths an axis, at least 2. Raises RuntimeMissingError where onnx or the engine is not installed.
    """
    begin = perf_counter()
    found, load = fingerprint(stopwatch.engine, stopwatch.threads), cores_in_use()
    if load > CALM:
        say(
            f"other work keeps {load:.1f} of {found.cores} cores busy: it slows some parts more than others, above all "
            "on several threads; measure again on an idle machine"
        )
    own = Structure(structure.arch, structure.squeeze_excite)
    say("stem and head")
    overhead, stem, head = _ends(own, classes, size, stopwatch)
    blocks = list[BlockTimes]()
    for site, inner in distinct_blocks(own, size):
        say(f"{site.name} and those like it")
        blocks.append(_block(own, site, inner, stopwatch, points))
    say("the whole network")
    graphs = {"whole": block_graphs.whole_graph(own, classes, size)}
    whole = measure_whole(graphs, stopwatch.engine, stopwatch.threads, _WHOLE_ROUNDS)["whole"]
    table = LatencyTable(
        SCHEMA,
        own.arch,
        own.squeeze_excite,
        classes,
        size,
        found,
        0.0,
        load,
        overhead,
        whole,
        1.0,
        stem,
        head,
        tuple(blocks),
    )
    scale = whole / table.cost(own.layer_widths)
    return replace(table, scale=scale, seconds=perf_counter() - begin)


def distinct_blocks(structure: Structure, size: tuple[int, int]) -> list[tuple[Site, tuple[int, ...]]]:
    """The first of each kind of block of an architecture: in each stage with and without a convolution aside."""
    shape = SHAPES[structure.arch]
    found = dict[tuple[int, bool], tuple[Site, tuple[int, ...]]]()
    for site, inner in sites(structure, size):
        found.setdefault((site.stage, shape.is_identity(site.stage, site.number)), (site, inner))
    return list(found.values())


def block_times(
    structure: Structure, variants: Sequence[tuple[Site, tuple[int, ...]]], stopwatch: Stopwatch
) -> NDArray[np.float64]:
    """Milliseconds [n] of blocks without their shells, which take turns."""
    shells = {_shell_name(site): (site.inputs, site.size) for site, _ in variants}
    graphs = [(name, block_graphs.shell_graph(*shell)) for name, shell in shells.items()]
    blocks = ((str(n), block_graphs.block_graph(structure, *each)) for n, each in enumerate(variants))
    times = stopwatch.times(each for source in (graphs, blocks) for each in source)
    taken = (times[str(n)] - times[_shell_name(site)] for n, (site, _) in enumerate(variants))
    return np.maximum(np.array(list(taken)), _LEAST_MS)


def axis(width: int, points: int) -> tuple[int, ...]:
    """Widths that are measured, from an eighth to the whole, ascending: multiples of 16, and the width itself."""
    shares = np.linspace(_LEAST_SHARE, 1.0, points)[:-1]
    scaled = {max(MULTIPLE, round(width * float(share) / MULTIPLE) * MULTIPLE) for share in shares}
    return *sorted(each for each in scaled if each < width), width


def _block(structure: Structure, site: Site, inner: tuple[int, ...], stopwatch: Stopwatch, points: int) -> BlockTimes:
    shape = SHAPES[structure.arch]
    is_identity = shape.is_identity(site.stage, site.number)
    if shape.groups > 1:
        ms = block_times(structure, [(site, inner)], stopwatch)
        return BlockTimes(site.stage, is_identity, _grid(tuple((width,) for width in inner), ms), None)
    axes = tuple(axis(width, points) for width in inner)
    ends = tuple((each[0], each[-1]) if len(each) > 1 else each for each in axes)
    beside = _halves([site.outputs] if is_identity else [site.inputs, site.outputs])
    plain = [(site, widths) for widths in product(*axes)]
    corners = list[tuple[Site, tuple[int, ...]]]()
    for combination in product(*beside, *ends):
        channels, widths = combination[: len(beside)], combination[len(beside) :]
        corners.append((replace(site, inputs=channels[0], outputs=channels[-1]), widths))
    times = block_times(structure, plain + corners, stopwatch)
    inner_grid, corner_grid = _grid(axes, times[: len(plain)]), _grid((*beside, *ends), times[len(plain) :])
    return BlockTimes(site.stage, is_identity, inner_grid, corner_grid)


def _ends(structure: Structure, classes: int, size: tuple[int, int], stopwatch: Stopwatch) -> tuple[float, Grid, Grid]:
    """The call's overhead, stem and head."""
    widths = structure.layer_widths
    [stems], [lasts] = _halves([widths.stem]), _halves([widths.stages[-1].channels])
    last_site = [site for site, _ in sites(structure, size)][-1]
    graphs: list[tuple[str, bytes]] = [("null", block_graphs.null_graph())]
    graphs += [(f"stem {width}", block_graphs.stem_graph(width, size)) for width in stems]
    for width in lasts:
        graphs.append((f"head {width}", block_graphs.head_graph(width, classes, last_site.size_out)))
        graphs.append((f"shell {width}", block_graphs.shell_graph(width, last_site.size_out)))
    times = stopwatch.times(graphs)
    stem = np.array([times[f"stem {width}"] - times["null"] for width in stems])
    head = np.array([times[f"head {width}"] - times[f"shell {width}"] for width in lasts])
    stem_grid, head_grid = (_grid((axis,), np.maximum(ms, _LEAST_MS)) for axis, ms in ((stems, stem), (lasts, head)))
    return times["null"], stem_grid, head_grid


def _halves(widths: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Of each width the half and the whole."""
    return tuple(tuple(sorted({max(1, width // 2), width})) for width in widths)


def _grid(axes: tuple[tuple[int, ...], ...], milliseconds: NDArray[np.float64]) -> Grid:
    shaped = milliseconds.reshape([len(each) for each in axes])
    return Grid(axes, tuple(float(each) for each in monotone(shaped).ravel()))


def _shell_name(site: Site) -> str:
    return f"shell {site.inputs} {site.size}"
