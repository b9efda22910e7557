"""What a start costs before the first step: every image of a folder is read, checked and decoded once.

    python -m benchmarks.startup FOLDER [--repeats 5]

Each repeat is a new process with an empty cache of scans. It prints the median and the range of wall seconds, and of
CPU seconds (user and system, of all threads), which other programs on the machine disturb less. Loading DALI does not
count: it takes the same time for any number of images. Two commits are compared by running it in a worktree of each.

Measured on two cores of an AMD EPYC beside other work (so CPU seconds only), before and after scan and probe stopped
decoding each image twice: 1800 JPEGs of 200 x 200 pixels 1.33 and 0.86; 1344 of about 500 x 300 pixels 1.87 and 1.11.
A whole start takes longer, most of it Ray's and torch's: benchmarks/first_step.py.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from time import perf_counter

from data_pipeline.sources.dali_probe import probe
from ray_jobs.data.prepare import index_data
from ray_jobs.job.toml import check

_CHILD = "--child"


def measure(folder: str) -> dict[str, float]:
    """Seconds of one scan in this process."""
    probe([])
    with tempfile.TemporaryDirectory() as cache:
        job = check({"data": {"root": folder, "cache_dir": cache, "on_unreadable": "skip"}})
        wall, before = perf_counter(), os.times()
        dataset = index_data(job)
        after = os.times()
    return {
        "images": len(dataset),
        "wall": perf_counter() - wall,
        "cpu": after.user + after.system - before.user - before.system,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(_CHILD, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.folder)))
        return
    command = [sys.executable, "-m", "benchmarks.startup", arguments.folder, _CHILD]
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        for _ in range(arguments.repeats)
    ]
    print(f"{int(runs[0]['images'])} images, {arguments.repeats} processes, {os.cpu_count()} CPUs")
    for name in ("wall", "cpu"):
        values = [run[name] for run in runs]
        each = f"{1e3 * statistics.median(values) / runs[0]['images']:.3f} ms an image"
        print(f"{name:5} {statistics.median(values):6.2f} s ({min(values):.2f} to {max(values):.2f}), {each}")


if __name__ == "__main__":
    main()
