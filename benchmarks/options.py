"""What each option changes in accuracy and speed, on real images.

ResNet-18 with weights learnt on Fashion-MNIST here is fine-tuned on a small subset of the handwritten digits. Part one:
regularisers and schedules. Part two: freezing policies. Options take turns within each seed; a speed is the median of
the paired ratios to the first row.

    python -m benchmarks.options [--seeds 3] [--weights FILE] [--json FILE] [--markdown FILE]
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from benchmarks.local_training import interval, judge_here, ratio, subset, train_here
from data_pipeline.example_data import write_digits, write_fashion_mnist
from ray_jobs.data.prepare import prepare_data
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.job.toml_codec import merged

Tree = dict[str, Any]
REGULARISERS: dict[str, Tree] = {
    "none": {},
    "label smoothing 0.1": {"training": {"label_smoothing": 0.1}},
    "mixup 0.2": {"training": {"mixup_alpha": 0.2}},
    "cutmix 1.0": {"training": {"cutmix_alpha": 1.0}},
    "dropout 0.3": {"model": {"dropout": 0.3}},
    "random erasing 0.3": {"augmentation": {"erase": 0.3}},
    "weight averages (EMA 0.98)": {"training": {"ema_decay": 0.98}},
    "gradient clipping at 1": {"optimizer": {"clip_norm": 1.0}},
    "squeeze-and-excitation": {"model": {"squeeze_excite": True}},
    "cosine instead of one-cycle": {"schedule": {"kind": "cosine", "warmup_epochs": 1.0}},
    "AdamW at 0.002": {"optimizer": {"kind": "adamw", "learning_rate": 0.002}},
    "activation checkpointing": {"training": {"activation_checkpointing": True}},
    "bf16": {"training": {"precision": "bf16"}},
}
POLICIES: dict[str, Tree] = {
    "all trained": {},
    "stem frozen (depth 1)": {"freezing": {"freeze_depth": 1}},
    "through layer1 (depth 2)": {"freezing": {"freeze_depth": 2}},
    "through layer2 (depth 3)": {"freezing": {"freeze_depth": 3}},
    "through layer3 (depth 4)": {"freezing": {"freeze_depth": 4}},
    "head only (depth 5)": {"freezing": {"freeze_depth": 5}},
    "layered": {"freezing": {"preset": "layered"}},
    "gradual": {"freezing": {"preset": "gradual"}},
    "linear probe, then fine-tuning": {"freezing": {"preset": "linear_probe_then_finetune"}},
    "stage_decay 0.6": {"optimizer": {"stage_decay": 0.6}},
    "random weights instead": {"model": {"weights": "none"}},
}
BASE: Tree = {
    "data": {"image_size": 32},
    "augmentation": {"horizontal_flip": 0.0, "crop_area": [0.6, 1.0]},
    "model": {"arch": "resnet18", "weights": "none"},
    "optimizer": {"learning_rate": 0.05},
    "schedule": {"kind": "one_cycle"},
    "training": {"epochs": 5, "global_batch_size": 32, "microbatch_size": 16, "reduction": "exact"},
}
TRAINED_ON = 30
"""Training images of each digit: few, so that regularisers have something to do."""


def job_for(root: Path, cache: Path, seed: int, option: Tree) -> JobConfig:
    """The base job with an option."""
    place = {"seed": seed, "data": {"root": str(root), "cache_dir": str(cache)}}
    return check(merged(merged(BASE, place), option))


def compare(
    options: dict[str, Tree], root: Path, cache: Path, seeds: int, weights: dict[str, torch.Tensor] | None
) -> dict[str, dict[str, list[float]]]:
    """Test top-1 and images per second of each option, a value for each seed."""
    found: dict[str, dict[str, list[float]]] = {name: {"top1": [], "speed": []} for name in options}
    for seed in range(seeds):
        for name, option in options.items():
            job = job_for(root, cache, seed, option)
            data = prepare_data(job)
            train = subset(data.split("train"), TRAINED_ON, seed)
            start = None if option.get("model", {}).get("weights") == "none" else weights
            model, speed = train_here(job, train, data.split("val"), start)
            top1 = judge_here(job, model, data.split("test")).metrics["top1"]
            found[name]["top1"].append(top1)
            found[name]["speed"].append(speed)
            print(f"seed {seed}  {name:34} top-1 {top1:.4f}  {speed:6.0f} images/s", flush=True)
    return found


def fashion_weights(scratch: Path, cache: Path, seed: int, file: Path | None) -> dict[str, torch.Tensor]:
    """A ResNet-18 that has learnt 500 garments of each class at 32 px; kept in `file`, or read from it."""
    if file is not None and file.exists():
        return safetensors.torch.load_file(file)
    root = scratch / "fashion"
    write_fashion_mnist(root)
    job = job_for(root, cache, seed, {"training": {"epochs": 3, "global_batch_size": 64, "microbatch_size": 32}})
    data = prepare_data(job)
    model, _ = train_here(job, subset(data.split("train"), 500, seed), subset(data.split("val"), 20, seed))
    test = subset(data.split("test"), 200, seed)
    print(f"Fashion-MNIST: test top-1 {judge_here(job, model, test).metrics['top1']:.4f}", flush=True)
    if file is not None:
        safetensors.torch.save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return model.state_dict()


def table(first: str, found: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: each option's mean, its mean difference to the first row by seed, and its speed."""
    name, reference = next(iter(found.items()))
    lines = [f"| {first} | test top-1 in % | more than {name!r}, by seed | speed |", "|---|---|---|---|"]
    for option, each in found.items():
        more = [own - other for own, other in zip(each["top1"], reference["top1"], strict=True)]
        difference = "" if option == name else interval(more)
        speed = ratio(each["speed"], reference["speed"])
        lines.append(f"| {option} | {interval(each['top1'])} | {difference} | {speed:.2f}x |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="at least 2 (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="where weights learnt on Fashion-MNIST are kept or found")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rd-options-") as folder:
        scratch = Path(folder)
        digits, cache = scratch / "digits", scratch / "cache"
        write_digits(digits)
        weights = fashion_weights(scratch, cache, 0, args.weights)
        regularisers = compare(REGULARISERS, digits, cache, args.seeds, weights)
        policies = compare(POLICIES, digits, cache, args.seeds, weights)
    text = table("option", regularisers) + "\n" + table("freezing policy", policies)
    print(text)
    if args.markdown:
        args.markdown.write_text(text)
    if args.json:
        args.json.write_text(json.dumps({"regularisers": regularisers, "policies": policies}, indent=2))


if __name__ == "__main__":
    main()
