"""How well a latency table predicts widths that it did not measure: single blocks, and whole networks.

A table is measured; then, in rounds of their own, blocks and networks of random widths that are on no grid. Each round
also times the block or the network with its own widths, and what the machine's other work makes of that since the table
was measured is taken out of the others.

    python -m benchmarks.latency_table [--arch resnet50] [--engine onnx] [--threads 2] [--size 224] [--points 8]
        [--networks 12] [--json FILE]
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from resnet_dist.compression.latency import block_graphs
from resnet_dist.compression.latency.measuring import POINTS, Stopwatch, block_times, distinct_blocks, measure_table
from resnet_dist.compression.latency.table import LatencyTable
from resnet_dist.compression.latency.timed_graphs import time_graphs
from resnet_dist.compression.planning.options import Choices, WidthSpace
from resnet_dist.compression.planning.target import LatencyEngine
from resnet_dist.model.architectures import ARCHS
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths

_BLOCKS = 8
"""Of each shape."""
_ROUNDS = 21


def main() -> None:
    """Measure, and print errors."""
    """Measure, and print errors."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--arch", default="resnet50", choices=ARCHS)
    parser.add_argument("--engine", default="onnx", choices=get_args(LatencyEngine))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    stopwatch = Stopwatch(chosen.engine, chosen.threads)
    structure, size = Structure(chosen.arch), (chosen.size, chosen.size)
    table = measure_table(structure, 1000, size, stopwatch, chosen.points, print)
    print(f"{table.fingerprint.text}, {table.busy_cores:.1f} cores busy with other work")
    print(f"{table.seconds:.0f} s, whole {table.whole:.2f} ms, scale {table.scale:.3f}")
    blocks = block_errors(table, stopwatch)
    networks = network_errors(table, stopwatch, chosen.networks)
    for name, errors in (*blocks.items(), *networks.items()):
        print(f"{name}: median {np.median(np.abs(errors)):.1%}, most {np.max(np.abs(errors)):.1%} {_signed(errors)}")
    if chosen.json:
        figures: dict[str, Any] = {"fingerprint": table.fingerprint.text, "seconds": table.seconds}
        figures |= {
            "scale": table.scale,
            "busy_cores": table.busy_cores,
            "whole_ms": table.whole,
            "blocks": blocks,
            "networks": networks,
        }
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


def block_errors(table: LatencyTable, stopwatch: Stopwatch) -> dict[str, list[float]]:
    """Predicted over measured milliseconds, less 1, of held-out inner widths of each distinct block."""
    draw = np.random.default_rng(1)
    found = dict[str, list[float]]()
    for site, own in distinct_blocks(table.structure, table.size):
        variants = [own, *(tuple(_held_out(width, draw) for width in own) for _ in range(_BLOCKS))]
        measured = block_times(table.structure, [(site, inner) for inner in variants], stopwatch)
        predicted = table.block(site, np.array(variants))
        ratios = predicted / predicted[0] / (measured / measured[0])
        found[f"block {site.name}"] = [float(each) - 1.0 for each in ratios[1:]]
    return found


def network_errors(table: LatencyTable, stopwatch: Stopwatch, count: int) -> dict[str, list[float]]:
    """Predicted over measured milliseconds, less 1, of whole networks of random widths, by the scope of the change."""
    found = dict[str, list[float]]()
    for scope in ("inner", "all"):
        space = WidthSpace(table.structure, table.size, Choices(scope))
        for number in range(count):
            widths = random_widths(space, np.random.default_rng(number))
            structures = {"own": table.structure, "cut": replace(table.structure, widths=widths)}
            graphs = {
                name: block_graphs.whole_graph(each, table.classes, table.size) for name, each in structures.items()
            }
            times = time_graphs(graphs, stopwatch.engine, stopwatch.threads, _ROUNDS)
            measured = float(np.quantile(times["cut"], 0.1) / np.quantile(times["own"], 0.1))
            predicted = table.cost(widths) / table.cost(table.structure.layer_widths)
            found.setdefault(f"networks, {scope}", []).append(predicted / measured - 1.0)
    return found


def random_widths(space: WidthSpace, draw: np.random.Generator) -> Widths:
    """One of a space's networks: each layer near a share that is the network's own."""
    share = draw.uniform(0.25, 0.9)
    coarse = space.coarse[int(draw.integers(len(space.coarse)))]
    inner = list[tuple[int, ...] | None]()
    for block in space.blocks:
        if block.may_go and draw.random() < 0.15:
            inner.append(None)
            continue
        wanted = share * block.inner[-1] * draw.uniform(0.8, 1.2, block.inner.shape[1])
        inner.append(block.taken(int(np.argmin(np.abs(block.inner - wanted).sum(axis=1)))))
    return space.at(coarse, inner)


def _held_out(width: int, draw: np.random.Generator) -> int:
    """A multiple of 16."""
    return 16 * int(draw.integers(max(1, width // 128), width // 16 + 1))


def _signed(errors: list[float]) -> str:
    return " ".join(f"{100 * each:+.0f}" for each in errors)


if __name__ == "__main__":
    main()
