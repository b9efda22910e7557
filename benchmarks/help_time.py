"""How long `resnet-dist --help` takes, next to an empty Python: medians of interleaved starts.

Run as `.venv/bin/python benchmarks/help_time.py [REPEATS]`; exits with 1 when help is slower than the limit.
"""

import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

LIMIT_S = 0.7
RESNET_DIST = str(Path(sys.executable).with_name("resnet-dist"))
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "resnet-dist --help": [RESNET_DIST, "--help"],
    "resnet-dist train --help": [RESNET_DIST, "train", "--help"],
}


def main(repeats: int = 9) -> int:
    """Measure and print; returns the exit code."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, command in COMMANDS.items():
            start = perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(perf_counter() - start)
    print(f"{'command':28}{'median s':>10}{'least':>8}{'most':>8}   ({repeats} interleaved starts)")
    for name, each in seconds.items():
        print(f"{name:28}{statistics.median(each):10.3f}{min(each):8.3f}{max(each):8.3f}")
    help_s = statistics.median(seconds["resnet-dist --help"])
    print(f"limit for resnet-dist --help: {LIMIT_S} s")
    return int(help_s > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main(*(int(each) for each in sys.argv[1:2])))
