"""How long near neighbours among many hashes take to find, in which memory, and whether any is missed.

    python -m benchmarks.hamming_join [--cases NAME ...] [--count N] [--repeats 1] [--json FILE]

The hashes are random. One of 200 has a planted neighbour, at distances from 1 to the radius in turn; all of these must
be found, and random hashes are so far apart that there is no other pair. Each case runs in a process of its own, since
memory is measured by its peak; that of Python and of the hashes is in it. Linux only.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

from data_pipeline.inspection.clusters import clusters, single_linkage
from data_pipeline.inspection.hamming_join import near_pairs, near_pairs_between


@dataclass(frozen=True)
class Case:
    """Hashes and what is sought in them."""

    count: int
    radius: int
    shared: int = 0
    """Bits that are the same in all hashes."""
    between: bool = False
    """Whether each half is compared with the other, not all with one another."""


CASES = {
    "million": Case(1_000_000, 24),
    "million-between": Case(1_000_000, 24, between=True),
    "shared": Case(100_000, 24, shared=128),
    "wide": Case(20_000, 60),
    "small": Case(10_000, 24),
    "small-wide": Case(10_000, 60),
    "lowered": Case(1_000_000, 60),
}


def planted_hashes(case: Case, seed: int = 0) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Hashes uint64 [N, 4], rows of the first half, and the rows of their planted neighbours in the second."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (case.count, 4), dtype=np.uint64)
    hashes[:, : case.shared // 64] = 0x0123456789ABCDEF
    planted = case.count // 200
    rows = rng.choice(case.count // 2, planted, replace=False)
    neighbours = case.count // 2 + rng.choice(case.count // 2, planted, replace=False)
    turned = np.zeros((planted, 256), dtype=np.uint8)
    distances = 1 + np.arange(planted) % case.radius
    ranks = rng.random((planted, 256 - case.shared)).argsort(axis=1).argsort(axis=1)
    turned[:, case.shared :] = ranks < distances[:, None]
    hashes[neighbours] = hashes[rows] ^ np.packbits(turned, axis=1, bitorder="little").view(np.uint64)
    return hashes, rows, neighbours


def measure(case: Case) -> dict[str, float | int | None]:
    """One case, once, in this process."""
    hashes, rows, neighbours = planted_hashes(case)
    start, cpu = perf_counter(), process_time()
    if case.between:
        half = case.count // 2
        pairs = near_pairs_between(hashes[:half], hashes[half:], case.radius)
        second = pairs.second + half
    else:
        pairs = near_pairs(hashes, case.radius)
        second = pairs.second
    seconds, cpu = perf_counter() - start, process_time() - cpu
    start = perf_counter()
    found = clusters(single_linkage(case.count, pairs.first, second))
    distances = 1 + np.arange(len(rows)) % case.radius
    within = distances <= pairs.radius
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "clustering_seconds": perf_counter() - start,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "pairs": len(pairs.first),
        "clusters": len(found),
        "planted": int(within.sum()),
        "planted_found": int(
            np.isin((rows * case.count + neighbours)[within], pairs.first * case.count + second).sum()
        ),
        "radius": pairs.radius,
        "lowered_from": pairs.lowered_from,
    }


def main() -> None:
    """Measure, print, write where asked; with `--case`, one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    parser.add_argument("--count", type=int, help="hashes in each case; default: the case's own number")
    parser.add_argument("--repeats", type=int, default=1, help="of which the median counts (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--case", choices=CASES, help="one case only, in this process")
    args = parser.parse_args()
    if args.case:
        case = CASES[args.case]
        case = Case(args.count or case.count, case.radius, case.shared, case.between)
        print(json.dumps(measure(case)))
        return
    rows = []
    print("| case | hashes | radius | shared bits | seconds | CPU s | peak GiB | pairs | planted | found |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in args.cases:
        case = CASES[name]
        count = args.count or case.count
        command = [sys.executable, "-m", "benchmarks.hamming_join", "--case", name, "--count", str(count)]
        runs = [
            json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(args.repeats)
        ]
        row = {**runs[-1], **{key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu_seconds")}}
        rows.append({"case": name, "hashes": count, "shared": case.shared, **row})
        radius = f"{case.radius}" if row["lowered_from"] is None else f"{row['radius']} of {case.radius}"
        print(
            f"| {name} | {count} | {radius} | {case.shared} | {row['seconds']:.2f} | {row['cpu_seconds']:.2f} | "
            f"{row['peak_gib']:.2f} | {row['pairs']} | {row['planted']} | {row['planted_found']} |",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps({"repeats": args.repeats, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
