"""How much memory training takes: `python -m benchmarks.memory [--arch resnet50] [--image-size 224] [--json FILE]`.

Steps as the library makes them, in fp32 on the CPU, with and without a frozen trunk and activation checkpointing. Each
case runs in a process of its own, since an allocator keeps what it once had. Peak: the largest resident memory of the
process. Training: how much of it was not there before the network was built, so without Python and torch themselves.
Linux only.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.gpu_job import Job, make_training, noise
from benchmarks.gpu_measuring import Settings
from resnet_dist.training.train_step import train_step

DEPTHS = {0: "all trained", 2: "through layer1 frozen", 3: "through layer2 frozen", 4: "through layer3 frozen"}
_STATUS = Path("/proc/self/status")
_MIB = 1024


def resident_kib(field: str) -> int:
    """VmRSS, resident now, or VmHWM, the most there has been, of this process in KiB."""
    return next(int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))


def measure(args: argparse.Namespace) -> dict[str, float]:
    """One case, in this process."""
    torch.set_num_threads(args.threads)
    settings = Settings(
        device=torch.device("cpu"),
        tiny=False,
        repeats=1,
        steps=args.steps,
        warm_up=0,
        arch=args.arch,
        image_size=args.image_size,
        batches=(args.microbatch_size,),
        batch=args.microbatch_size,
        compiler="inductor",
        images=None,
        threads=args.threads,
    )
    before = resident_kib("VmRSS")
    job = Job(freeze_depth=args.freeze_depth, bf16=False, checkpointing=args.checkpointing, reduction="exact")
    source = noise(settings, args.microbatch_size)
    steps = source.forever()
    state, recipe = make_training(settings, job, next(next(source.epoch(0)).microbatches).images[:2])
    seconds = []
    for _ in range(args.steps):
        start = perf_counter()
        train_step(state, recipe, next(steps), 0.01)
        seconds.append(perf_counter() - start)
    peak = resident_kib("VmHWM")
    return {
        "peak_mib": peak / _MIB,
        "training_mib": (peak - before) / _MIB,
        "seconds": statistics.median(seconds[1:]),
    }


def in_a_process(args: argparse.Namespace, freeze_depth: int, checkpointing: bool) -> dict[str, float]:
    """One case, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--case", "--arch", args.arch]
    command += ["--image-size", str(args.image_size), "--microbatch-size", str(args.microbatch_size)]
    command += ["--threads", str(args.threads), "--steps", str(args.steps), "--freeze-depth", str(freeze_depth)]
    command += ["--checkpointing"] if checkpointing else []
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50")
    parser.add_argument("--image-size", type=int, default=224, help="pixels (default: %(default)s)")
    parser.add_argument("--microbatch-size", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="steps of each case, at least 2 (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--case", action="store_true", help="one case only, in this process")
    parser.add_argument("--freeze-depth", type=int, default=0, help="of the one case")
    parser.add_argument("--checkpointing", action="store_true", help="of the one case")
    args = parser.parse_args()
    if args.steps < 2:
        parser.error(f"--steps {args.steps}: the first one allocates and is not timed; use 2 or more")
    if args.case:
        print(json.dumps(measure(args)))
        return
    rows = []
    print("| what is trained | activation checkpointing | training MiB | peak of the process MiB | s per step |")
    print("|---|---|---|---|---|")
    for depth, name in DEPTHS.items():
        for checkpointing in (False, True):
            found = in_a_process(args, depth, checkpointing)
            rows.append({"freeze_depth": depth, "checkpointing": checkpointing, **found})
            cells = f"{found['training_mib']:.0f} | {found['peak_mib']:.0f} | {found['seconds']:.2f}"
            print(f"| {name} | {'on' if checkpointing else 'off'} | {cells} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
