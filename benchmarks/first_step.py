"""Wall seconds from the start of `resnet-dist train` to its first step, of this tree and of others in turns.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.first_step FOLDER [--tree /tmp/before ...] [--repeats 5]

A training of ResNet-18 at 64 px with two workers on the images of FOLDER, each time with an empty home, cache and
storage. Trees share this one's environment, so their locks must fit it. The first step is seen in the run's status.

Measured on two cores of an AMD EPYC with 1800 JPEGs of 200 x 200 pixels, two runs each: release 0.1 44.1 s, now 42.8 s.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_LOOK_S = 0.02


def seconds_to_first_step(tree: Path, images: Path) -> float:
    """Start the training of a tree and end it after its first step. Raises RuntimeError where it ends by itself."""
    with tempfile.TemporaryDirectory(prefix="rd-first-step-") as name:
        folder = Path(name)
        flags = {
            "--name": "first", "--data.root": images, "--data.cache-dir": folder / "cache", "--data.image-size": 64,
            "--model.arch": "resnet18", "--model.weights": "none", "--training.global-batch-size": 32,
            "--training.log-every-steps": 1, "--cluster.num-workers": 2, "--cluster.cpus-per-worker": 1,
            "--cluster.local-cpus": 2, "--storage.root": folder / "outputs",
        }  # fmt: skip
        command = [sys.executable, "-m", "ray_jobs", "train", *(str(word) for pair in flags.items() for word in pair)]
        environment = {**os.environ, "PYTHONPATH": str(tree), "HOME": name, "XDG_CACHE_HOME": f"{name}/cache"}
        status, log = folder / "outputs/runs/first/status.json", folder / "log"
        began = time.perf_counter()
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=tree, env=environment, stdout=output, stderr=subprocess.STDOUT)
        while not _has_stepped(status):
            if process.poll() is not None:
                raise RuntimeError(f"{tree}: the training ended before its first step\n{log.read_text()[-2000:]}")
            time.sleep(_LOOK_S)
        seconds = time.perf_counter() - began
        process.terminate()
        process.wait()
        return seconds


def _has_stepped(status: Path) -> bool:
    with suppress(OSError, ValueError):  # it is not there, or not whole yet
        return bool(json.loads(status.read_text())["step"])
    return False


def main() -> None:
    """Measure and print a line for each tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tree", type=Path, action="append", default=[])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    trees = [Path(__file__).parents[1], *(tree.resolve() for tree in args.tree)]
    found: dict[Path, list[float]] = {tree: [] for tree in trees}
    for _ in range(args.repeats):
        for tree, seconds in found.items():
            seconds.append(seconds_to_first_step(tree, args.folder.resolve()))
    for tree, seconds in found.items():
        print(f"{tree}: {statistics.median(seconds):.1f} s ({min(seconds):.1f} .. {max(seconds):.1f})")


if __name__ == "__main__":
    main()
