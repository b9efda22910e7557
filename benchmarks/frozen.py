"""How much faster a training step is with a frozen trunk: `python benchmarks/frozen.py [--json FILE]`.

A ResNet-50 step at 224 pixels (forward, backward of the suffix, SGD) at freeze depths 2 to 5 against fine-tuning all
of it, in fp32 on the CPU. The depths take turns, so that load from elsewhere falls on all of them; a ratio is the
median over the turns of full fine-tuning's time over the depth's in the same turn.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch

from resnet_dist.config import OptimizerConfig, TrainingConfig
from resnet_dist.model.pointwise import use_onednn
from resnet_dist.model.resnet import build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.trunk import split
from resnet_dist.training.optimizer import build_optimizer

MICROBATCH_SIZE: int = TrainingConfig.model_fields["microbatch_size"].default
TARGETS = {2: 1.4, 3: 1.9, 4: 3.0, 5: 4.0}
"""Least ratio expected of each freeze depth on two cores."""


def training_step(freeze_depth: int, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """One step of a network of its own on a microbatch."""
    model = build_model(Structure("resnet50"), 10, 0.0, seed=0)
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    use_onednn(model, TrainingConfig())
    trunk, suffix = split(model, freeze_depth)
    suffix.train()
    optimizer = build_optimizer(suffix, OptimizerConfig())

    def step() -> None:
        features = images if trunk is None else trunk(images)
        torch.nn.functional.cross_entropy(suffix(features), labels).backward()  # pyright: ignore[reportUnknownMemberType]
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(step: Callable[[], None]) -> float:
    """Wall-clock time of one call."""
    start = perf_counter()
    step()
    return perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="turns, at least 3 (default: %(default)s)")
    parser.add_argument(
        "--microbatch-size", type=int, default=MICROBATCH_SIZE, help="images a step (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args()
    if arguments.repeats < 3:
        parser.error(f"--repeats {arguments.repeats} gives no median worth printing; use 3 or more")
    torch.set_num_threads(arguments.threads)

    generator = torch.Generator().manual_seed(0)
    images = torch.randn((arguments.microbatch_size, 3, 224, 224), generator=generator)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.arange(arguments.microbatch_size) % 10
    steps = {depth: training_step(depth, images, labels) for depth in (0, *TARGETS)}
    for step in steps.values():
        step()  # the first one allocates
    turns = [{depth: seconds(step) for depth, step in steps.items()} for _ in range(arguments.repeats)]

    rows = [
        {
            "freeze_depth": depth,
            "seconds": statistics.median(turn[depth] for turn in turns),
            "ratio": statistics.median(turn[0] / turn[depth] for turn in turns),
            "target": TARGETS.get(depth),
        }
        for depth in steps
    ]
    print(f"{'freeze_depth':>12} {'seconds':>8} {'ratio':>6} {'target':>6}")
    for row in rows:
        target = "" if row["target"] is None else f"{row['target']:.1f}"
        print(f"{row['freeze_depth']:>12} {row['seconds']:>8.3f} {row['ratio']:>6.2f} {target:>6}")
    if arguments.json:
        arguments.json.write_text(json.dumps({**vars(arguments), "json": None, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
