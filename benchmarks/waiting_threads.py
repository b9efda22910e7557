"""What OpenMP's threads cost that spin while they wait, and what a bounded spin costs a process that is alone.

Each measurement is a process of its own that trains a ResNet-18 with as many threads as there are cores: alone, and
beside as many processes that compute without a pause. The variables of `cluster.session.openmp` are set in every second
one.

    python -m benchmarks.waiting_threads [--seconds 6] [--repeats 5] [--json FILE]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from cluster.session.openmp import BOUNDED_SPINNING, WAIT_POLICY

CORES = len(os.sched_getaffinity(0))
BATCH, IMAGE_SIZE = 32, 64
WARM_UP_STEPS = 2
PLACES = ("alone", "beside busy processes")
SPINNING = ("unset", "bounded")


def images_per_second(seconds: float) -> float:
    """Of training steps in this process, after warm-up."""
    import torch  # noqa: PLC0415 - only in the process that is measured
    import torchvision  # noqa: PLC0415

    torch.set_num_threads(CORES)
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None, num_classes=10).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    images = torch.randn(BATCH, 3, IMAGE_SIZE, IMAGE_SIZE).to(memory_format=torch.channels_last)
    labels = torch.arange(BATCH) % 10
    steps, start = -WARM_UP_STEPS, 0.0
    while steps <= 0 or time.perf_counter() - start < seconds:
        if steps == 0:
            start = time.perf_counter()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    return steps * BATCH / (time.perf_counter() - start)


def measure(spinning: str, seconds: float) -> float:
    """In a new process, which loads OpenMP with the variables set or not."""
    taken = {WAIT_POLICY, *BOUNDED_SPINNING}
    environment = {name: value for name, value in os.environ.items() if name not in taken}
    if spinning == "bounded":
        environment |= BOUNDED_SPINNING
    command = [sys.executable, "-m", "benchmarks.waiting_threads", "--seconds", str(seconds), "--measure"]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@contextmanager
def neighbours(place: str) -> Generator[None]:
    """Processes that compute without a pause, one for each core."""
    count = 0 if place == "alone" else CORES
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    """Measure, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(images_per_second(args.seconds))
        return
    speeds: dict[str, dict[str, list[float]]] = {place: {kind: [] for kind in SPINNING} for place in PLACES}
    for _ in range(args.repeats):
        for place, kinds in speeds.items():
            for kind, values in kinds.items():
                with neighbours(place):
                    values.append(measure(kind, args.seconds))
                print(f"{place}, {kind}: {values[-1]:.1f} images/s", flush=True)
    for place, kinds in speeds.items():
        ratios = [own / other for own, other in zip(kinds["bounded"], kinds["unset"], strict=True)]
        unset, bounded = (statistics.median(kinds[kind]) for kind in SPINNING)
        print(
            f"{place}: unset {unset:.1f}, bounded {bounded:.1f} "
            f"images/s, ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
        )
    if args.json:
        args.json.write_text(
            json.dumps({"settings": {**vars(args), "json": None}, "images_per_second": speeds}, indent=2)
        )


if __name__ == "__main__":
    main()
