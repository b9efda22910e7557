"""How near a pruned network comes to a target of latency: asked for as a ratio, measured as a whole network.

    python -m benchmarks.latency_targets [--arch resnet50] [--size 224] [--threads 1] [--engines onnx openvino]
        [--ratios 0.8 0.65 0.5 0.4 0.3] [--scope inner] [--widths TEXT] [--json FILE]

For each engine a latency table is measured. For each ratio widths are chosen, by scores that are drawn at random, and
corrected by measuring as `compress prune` does (`resnet_dist.compression.latency.fit`). Then the network is measured
again, in seven rounds in turns with the whole one: what that says was used for no choice. --widths measures a network
of these widths alone, such as one that `compress` made for another size of images.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.drawn_scores import drawn_scores
from resnet_dist.compression.latency.block_graphs import whole_graph
from resnet_dist.compression.latency.fit import fit_to_latency, measure_by
from resnet_dist.compression.latency.measuring import Stopwatch, measure_table
from resnet_dist.compression.latency.timed_graphs import measure_whole
from resnet_dist.compression.planning.options import Choices, WidthSpace
from resnet_dist.compression.planning.target import LatencyEngine, Target
from resnet_dist.model.structure import Structure
from resnet_dist.model.widths import Widths

CLASSES = 1000
_ROUNDS = 7


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engines", nargs="+", default=["onnx", "openvino"])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.8, 0.65, 0.5, 0.4, 0.3])
    parser.add_argument("--scope", default="inner")
    parser.add_argument("--widths", help="as model.widths; measured, and no target is asked for")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    structure, size = Structure(args.arch), (args.size, args.size)
    if args.widths is not None:
        narrow = replace(structure, widths=Widths.parse(args.widths, structure.arch))
        for engine in args.engines:
            found = _in_turns(structure, narrow, size, engine, args.threads)
            print(f"{engine}: {found['whole']:.2f} ms whole, {found['pruned']:.2f} ms, {found['megabytes']:.1f} MB")
        return
    scores = drawn_scores(structure, 0)
    space = WidthSpace(structure, size, Choices(args.scope, floor=0.1))
    facts: list[dict[str, Any]] = []
    print("| engine | asked | measured | off | milliseconds, whole and pruned | tries |")
    print("| --- | --- | --- | --- | --- | --- |")
    for engine in args.engines:
        table = measure_table(structure, CLASSES, size, Stopwatch(engine, args.threads))
        for ratio in args.ratios:
            fit = fit_to_latency(space, scores, table, Target("latency", ratio, "x", engine), measure_by(table))
            pruned = replace(structure, widths=fit.best.widths)
            found = _in_turns(structure, pruned, size, engine, args.threads)
            share = found["pruned"] / found["whole"]
            facts.append(
                {"engine": engine, "asked": ratio, "measured": share, "table_s": table.seconds, "ms": found}
                | {"tries": len(fit.attempts), "widths": fit.best.widths.text, "busy_cores": table.busy_cores}
            )
            print(
                f"| {engine} | {ratio:g} | {share:.3f} | {100 * (share / ratio - 1):+.1f} % | {found['whole']:.2f}, "
                f"{found['pruned']:.2f} | {len(fit.attempts)} |",
                flush=True,
            )
        print(f"\n{engine}: the table took {table.seconds:.0f} s beside {table.busy_cores:.1f} busy cores\n")
    if args.json is not None:
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


def _in_turns(
    whole: Structure, pruned: Structure, size: tuple[int, int], engine: LatencyEngine, threads: int
) -> dict[str, float]:
    """Milliseconds of both networks, and megabytes of the pruned one's graph."""
    graphs = {name: whole_graph(each, CLASSES, size) for name, each in (("whole", whole), ("pruned", pruned))}
    return measure_whole(graphs, engine, threads, _ROUNDS) | {"megabytes": len(graphs["pruned"]) / 1e6}


if __name__ == "__main__":
    main()
