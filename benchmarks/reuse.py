"""How much faster the trials of a search are when they share the features of their frozen stages.

    python -m benchmarks.reuse DIR [--image-size 224] [--epochs 2] [--trials 3] [--depths 5 4] [--json FILE]

DIR holds photographs, such as 500 of ImageNet. A trial is one training of ResNet-50 with a learning rate and a dropout
of its own, in this process, in fp32, with everything that belongs to it: set-up, data pipeline, epochs and validation.
The weights are random ("none"), which takes as long as others; the labels are made up. One more trial fills the store
and is not counted. Trials with and without a store take turns; a ratio is the median over the trials of the time
without over the time with it. Their weights must be equal to the bit.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks.local_training import THREADS, train_here
from data_pipeline.listing.samples import Samples, key_of
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.training.feature_sharing import views_digest
from resnet_dist.features.reuse import FeatureReuse
from resnet_dist.features.store import FeatureStore
from resnet_dist.runtime.image_file import image_header

TARGETS = {5: 10.0, 4: 2.2}
"""Least ratio expected at a freeze depth."""
CLASSES = 10
MICROBATCH = 16


def photographs(folder: Path) -> Samples:
    """The folder's JPEGs, with labels that mean nothing."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg"})
    headers = [image_header(path.read_bytes(), max_pixels=10**8) for path in paths]
    return Samples(
        root=str(folder),
        classes=tuple(f"class {number}" for number in range(CLASSES)),
        sample_ids=tuple(path.name for path in paths),
        keys=np.array([key_of(path.name) for path in paths], dtype=np.uint64),
        labels=np.arange(len(paths), dtype=np.int64) % CLASSES,
        sizes=np.array([header[:2] for header in headers], dtype=np.int32),
        plain=np.array([header[2] for header in headers]),
        content=("",) * len(paths),
    )


def job_for(trial: int, depth: int, arguments: argparse.Namespace) -> JobConfig:
    """One trial of a search over learning rate and dropout."""
    return check(
        {
            "data": {"root": str(arguments.folder), "image_size": arguments.image_size},
            "model": {"arch": "resnet50", "weights": "none", "dropout": 0.1 * (trial % 5)},
            "freezing": {"freeze_depth": depth},
            "optimizer": {"learning_rate": 0.01 / (1 + trial)},
            "training": {
                "epochs": arguments.epochs,
                "global_batch_size": 2 * MICROBATCH,
                "microbatch_size": MICROBATCH,
            },
        }
    )


def trial_seconds(
    job: JobConfig, train: Samples, val: Samples, store: FeatureStore | None
) -> tuple[float, dict[str, torch.Tensor], FeatureReuse | None]:
    """Wall-clock time of a training, its weights, and what was reused."""
    start = perf_counter()
    reuse = None
    if store is not None:
        digest = views_digest(job, train, val, "", MICROBATCH, torch.device("cpu"), THREADS)
        reuse = FeatureReuse(store, digest, "fp32", print)
    model, _ = train_here(job, train, val, reuse=reuse)
    if reuse is not None:
        reuse.close()
    return perf_counter() - start, model.state_dict(), reuse


def measure(depth: int, train: Samples, val: Samples, arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of one freeze depth."""
    with tempfile.TemporaryDirectory(dir=arguments.store) as folder:
        store = FeatureStore(Path(folder) / "features", 2**36)
        filling, _, filled = trial_seconds(job_for(0, depth, arguments), train, val, store)
        without, reused, equal = list[float](), list[float](), True
        for trial in range(1, arguments.trials + 1):
            job = job_for(trial, depth, arguments)
            plain, expected, _ = trial_seconds(job, train, val, None)
            seconds, weights, reuse = trial_seconds(job, train, val, store)
            without.append(plain)
            reused.append(seconds)
            equal &= all(torch.equal(value, weights[name]) for name, value in expected.items())
            print(f"depth {depth} trial {trial}: {plain:.1f} s, {seconds:.1f} s with reuse, {reuse and reuse.counts}")
        return {
            "freeze_depth": depth,
            "filling_s": filling,
            "without_s": statistics.median(without),
            "reused_s": statistics.median(reused),
            "ratio": statistics.median(a / b for a, b in zip(without, reused, strict=True)),
            "target": TARGETS.get(depth),
            "bitwise_equal": equal,
            "megabytes": store.stored_bytes / 1e6,
            "filling": filled and vars(filled.counts),
        }


def main() -> None:
    """Measure, print, write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--image-size", type=int, default=224, help="pixels (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=2, help="of each trial (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=3, help="counted ones (default: %(default)s)")
    parser.add_argument("--depths", type=int, nargs="+", default=[5, 4], help="freeze depths (default: 5 4)")
    parser.add_argument("--images", type=int, default=500, help="most photographs used (default: %(default)s)")
    parser.add_argument("--store", type=Path, help="folder for the store; default: a temporary one")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    arguments = parser.parse_args()

    samples = photographs(arguments.folder)
    samples = samples.select(np.arange(min(len(samples), arguments.images)))
    rows, part = np.arange(len(samples)), np.arange(len(samples)) // CLASSES % 5
    train, val = samples.select(rows[part != 0]), samples.select(rows[part == 0])
    print(f"{len(train)} images to train on, {len(val)} to validate, {arguments.epochs} epochs, {THREADS} threads")
    results = [measure(depth, train, val, arguments) for depth in arguments.depths]
    print(
        f"{'depth':>5} {'filling s':>9} {'without s':>9} {'reused s':>8} {'ratio':>6} {'target':>6} {'MB':>6} bitwise"
    )
    for row in results:
        print(
            f"{row['freeze_depth']:>5} {row['filling_s']:>9.1f} {row['without_s']:>9.1f} {row['reused_s']:>8.1f} "
            f"{row['ratio']:>6.2f} {row['target'] or '':>6} {row['megabytes']:>6.0f} {row['bitwise_equal']}"
        )
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"options": vars(arguments), "rows": results}, indent=2, default=str) + "\n"
        )


if __name__ == "__main__":
    main()
