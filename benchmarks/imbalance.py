"""What each method against class imbalance does for the rarest classes, on photographs of real defects.

    python -m benchmarks.imbalance DIR [--group-gap 200] [--epochs 8] [--image-size 64] [--seeds 3] [--weights FILE]
        [--json FILE] [--markdown FILE]

DIR holds class folders, such as the magnetic tile defects (Huang et al., "Surface defect saliency of magnetic tile",
2018), whose photographs of one tile carry neighbouring numbers in their names: images of a class whose numbers lie
within `--group-gap` of each other share a split. ResNet-18 starts from weights learnt on Fashion-MNIST here.
Methods take turns within each seed, and each seed has splits of its own.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.local_training import interval, judge_here, train_here
from benchmarks.options import fashion_weights
from data_pipeline.config import DataConfig
from ray_jobs.data.prepare import prepare_data
from ray_jobs.data.split import Grouping, run_split
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.job.toml_codec import merged

Tree = dict[str, Any]
METHODS: dict[str, Tree] = {
    "none": {},
    "class weights": {"training": {"class_weights": "balanced"}},
    "balanced sampling": {"data": {"sampling": "balanced"}},
    "focal loss, gamma 2": {"training": {"loss": "focal"}},
    "logit adjustment, tau 1": {"training": {"logit_adjustment": 1.0}},
}
RAREST = 2


def job_for(root: Path, labels: Path, cache: Path, seed: int, args: argparse.Namespace, method: Tree) -> JobConfig:
    """The training of one method."""
    base: Tree = {
        "seed": seed,
        "data": {"root": str(root), "labels": str(labels), "image_size": args.image_size, "cache_dir": str(cache)},
        "augmentation": {"vertical_flip": 0.5, "brightness": 0.2, "contrast": 0.2, "crop_area": [0.6, 1.0]},
        "model": {"arch": "resnet18", "weights": "none"},
        "optimizer": {"kind": "adamw", "learning_rate": 0.002},
        "schedule": {"kind": "one_cycle"},
        "training": {"epochs": args.epochs, "global_batch_size": 32, "microbatch_size": 16, "reduction": "exact"},
    }
    return check(merged(base, method))


def main() -> None:
    """Measure, print, write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--group-gap", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-size", type=int, default=64, help="pixels (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="where weights learnt on Fashion-MNIST are kept or found")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {name: {} for name in METHODS}
    with tempfile.TemporaryDirectory(prefix="rd-imbalance-") as name:
        scratch = Path(name)
        cache = scratch / "cache"
        weights = fashion_weights(scratch, cache, 0, args.weights)
        for seed in range(args.seeds):
            labels = scratch / f"split-{seed}.csv"
            data = DataConfig(root=str(args.folder.absolute()), val_fraction=0.15, test_fraction=0.3)
            run_split(data, seed, Grouping(gap=args.group_gap), labels)
            for method, option in METHODS.items():
                job = job_for(args.folder.absolute(), labels, cache, seed, args, option)
                prepared = prepare_data(job)
                train = prepared.split("train")
                model, _ = train_here(job, train, prepared.split("val"), weights)
                result = judge_here(job, model, prepared.split("test"))
                rarest = np.argsort(np.bincount(train.labels, minlength=len(train.classes)), kind="stable")[:RAREST]
                values = {"macro-F1": result.metrics["macro_f1"], "top-1": result.metrics["top1"]}
                values |= {f"recall of {result.classes[label].name}": result.classes[label].recall for label in rarest}
                for key, value in values.items():
                    found[method].setdefault(key, []).append(value)
                print(f"seed {seed}  {method:26}", {key: round(value, 3) for key, value in values.items()}, flush=True)
    columns = sorted({key for each in found.values() for key in each})
    lines = [f"| method | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for method, each in found.items():
        cells = [interval(each[key]) if len(each.get(key, [])) > 1 else "" for key in columns]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if args.markdown:
        args.markdown.write_text(text)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
