"""What a GPU makes of this library: one table, each figure next to what others measured.

    python benchmarks/gpu.py                                    # all sections, ResNet-50 at 224 px
    python benchmarks/gpu.py --only dali parity --images DIR    # some of them, added to the same file
    python benchmarks/gpu.py --tiny                             # does the script itself work? Seconds, on a CPU too

The training steps are the library's own, on batches that are on the device already. Variants that are compared take
turns; a figure is the median over the turns. The file is written after each section. torch, torchvision, numpy,
pydantic and safetensors are enough; what needs DALI says so where it is missing.

Exit codes: 0 done, 1 some figure could not be measured because something broke, 2 wrong usage.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter

# Where the project is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import gpu_results
from benchmarks.gpu_data import dali
from benchmarks.gpu_inference import inference
from benchmarks.gpu_measuring import Row, Settings, SkippedError, one_line, release
from benchmarks.gpu_parity import parity
from benchmarks.gpu_training import cached, frozen, full, options, precision

SECTIONS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "full": full,
    "precision": precision,
    "frozen": frozen,
    "cached": cached,
    "options": options,
    "dali": dali,
    "inference": inference,
    "parity": parity,
}
_COMPILED_VARIANTS = 256
"""Shapes and depths that share a function: beyond torch's default of 8 it would not compile them any more."""


def run(name: str, settings: Settings) -> dict[str, object]:
    """A section's rows as far as it came. Whatever breaks it ends no other section."""
    # Each section starts as if it were alone: nothing compiled, nothing held.
    torch._dynamo.reset()
    release(settings.device)
    rows: list[Row] = []
    status, reason, start = "done", "", perf_counter()
    try:
        # One by one: what a section gave before it broke is kept.
        rows.extend(SECTIONS[name](settings))
    except SkippedError as error:
        status, reason = "skipped", str(error)
    except Exception as error:
        status, reason = "failed", one_line(error)
    if settings.tiny and name != "parity":
        rows = [replace(row, met=None) for row in rows]  # another network than the references'
    broken = [row.what for row in rows if row.failed]
    if status == "done" and broken:
        status, reason = "failed", f"{len(broken)} of {len(rows)} rows: {', '.join(broken)}"
    return gpu_results.section(settings, status, reason, perf_counter() - start, rows)


def settings_of(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Settings:
    """Full size on a GPU, or tiny anywhere; anything else is wrong usage."""
    gpu = torch.cuda.is_available()
    if not gpu and not args.tiny:
        parser.error("torch finds no CUDA GPU, and figures of a CPU say nothing here; --tiny tries the script itself")
    tiny: bool = args.tiny
    repeats: int = args.repeats or (1 if tiny else 3)
    if repeats < (1 if tiny else 3):
        parser.error(f"--repeats {repeats} gives no median worth printing; use 3 or more")
    return Settings(
        device=torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu"),
        tiny=tiny,
        repeats=repeats,
        steps=1 if tiny else 10,
        warm_up=1 if tiny else 5,
        arch="resnet18" if tiny else "resnet50",
        image_size=32 if tiny else 224,
        batches=(4,) if tiny else tuple(args.batches),
        batch=4 if tiny else args.batch,
        compiler=args.compiler or ("aot_eager" if tiny else "inductor"),
        images=args.images,
        threads=1 if tiny else args.threads,
    )


def main() -> int:
    """Measure, write, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", default=list(SECTIONS),
                        help=f"some of {', '.join(SECTIONS)}")  # fmt: skip
    parser.add_argument("--repeats", type=int, help="turns of each variant (default: 3; with --tiny 1)")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 256, 512], metavar="N",
                        help="where the best batch is looked for (default: 128 256 512)")  # fmt: skip
    parser.add_argument("--batch", type=int, default=256, help="everywhere else (default: %(default)s)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="JPEGs, flat or in class folders, for DALI")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="DALI's CPU threads and torchvision's workers (default: %(default)s)")  # fmt: skip
    parser.add_argument("--compiler", choices=("inductor", "aot_eager"),
                        help="torch.compile's backend (default: inductor; with --tiny aot_eager, a trace)")  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="a small network on few small images, to try the script")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: benchmarks/results/<gpu name>.json")
    args = parser.parse_args()
    settings = settings_of(parser, args)
    file: Path = args.out or gpu_results.default_file(settings)
    try:
        results = gpu_results.read(file, settings)
    except ValueError as error:
        parser.error(str(error))
    torch._dynamo.config.recompile_limit = _COMPILED_VARIANTS
    torch._dynamo.config.accumulated_recompile_limit = _COMPILED_VARIANTS

    failed = False
    for name in args.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        section = run(name, settings)
        failed |= section["status"] == "failed"
        results["sections"][name] = section
        gpu_results.write(file, results)
        print(f"{name}: {section['status']} in {section['seconds']} s", file=sys.stderr, flush=True)
    print(gpu_results.table(results))
    print(f"\n{results['device']}; written to {file}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
