"""How long `resnet-dist predict` takes for one image from nothing, without torch, and its peak memory.

Run as `.venv/bin/python -m benchmarks.cold_predict BUNDLE IMAGE [--repeats 9]`: the wheel is installed with its base
dependencies alone into a temporary environment, where nothing else could be imported. Medians of interleaved starts,
next to an empty Python; "CPU" is what the process itself used, which other programs on the machine do not lengthen
much. Exits with 1 where a format is slower than the limit.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from benchmarks.base_environment import make_base_environment

LIMIT_S = 1.0
FORMATS = ("onnx", "onnxruntime_int8")
EMPTY = "python -c pass"


@dataclass
class Starts:
    """Of one command: seconds on the clock, seconds of CPU and peak memory in MB."""

    wall: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])
    peak: list[float] = field(default_factory=list[float])


def start(command: list[str], starts: Starts) -> None:
    """Run a command once and note what it took. Raises RuntimeError where it fails."""
    begin = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    starts.wall.append(perf_counter() - begin)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    starts.cpu.append(used.ru_utime + used.ru_stime)
    starts.peak.append(used.ru_maxrss / 1024)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rd-cold-") as folder:
        python = make_base_environment(Path(folder))
        has_torch = (
            subprocess.run([python, "-c", "import torch"], check=False, stderr=subprocess.DEVNULL).returncode == 0
        )
        if has_torch:
            raise RuntimeError("torch can be imported there, so this would measure something else")
        program = [str(python.with_name("resnet-dist")), "predict", str(given.bundle), str(given.image)]
        commands = {EMPTY: [str(python), "-c", "pass"]} | {name: [*program, "--format", name] for name in FORMATS}
        for command in commands.values():
            start(command, Starts())  # byte code is written, files are read once
        measured = {name: Starts() for name in commands}
        for _ in range(given.repeats):
            for name, command in commands.items():
                start(command, measured[name])
    print(f"{'':20}{'median s':>10}{'least':>8}{'most':>8}{'CPU s':>8}{'peak MB':>9}   ({given.repeats} starts)")
    for name, each in measured.items():
        wall, cpu, peak = statistics.median(each.wall), statistics.median(each.cpu), statistics.median(each.peak)
        print(f"{name:20}{wall:10.3f}{min(each.wall):8.3f}{max(each.wall):8.3f}{cpu:8.3f}{peak:9.0f}")
    print(f"limit for a format: {LIMIT_S} s")
    return int(any(statistics.median(measured[name].wall) > LIMIT_S for name in FORMATS))


if __name__ == "__main__":
    sys.exit(main())
