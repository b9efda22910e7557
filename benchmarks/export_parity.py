"""What each format loses of a trained network, on test images that neither training nor calibration has seen.

    python -m benchmarks.export_parity [--epochs 12] [--arch resnet18] [--image-size 32] [--seed 0] [--json FILE]

A network with random weights is trained on 300 garments of each class of Fashion-MNIST, with 200 to validate, exported
through `run_export` with all its gates, and every published format is run by the runtime that ships over the same 1,000
test garments of each class. Differences are paired: 95 % intervals by Bonett and Price.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.garments import write_garments
from ray_jobs.bundles.export import ExportOutcome, run_export
from ray_jobs.evaluation.evaluate import run_evaluate
from ray_jobs.job.config import JobConfig
from ray_jobs.job.toml import check
from ray_jobs.training.driver import run_train
from resnet_dist.evaluation.paired_interval import Changes
from resnet_dist.export.formats.torch_engines import load_torch_engine
from resnet_dist.export.parity import answers
from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.engines import load_engine

GARMENTS = {"train": 300, "val": 200, "test": 1000}


def job_for(scratch: Path, args: argparse.Namespace) -> JobConfig:
    """The training whose network is exported."""
    return check(
        {
            "name": "garments",
            "seed": args.seed,
            "data": {
                "root": str(scratch / "garments"),
                "image_size": args.image_size,
                "cache_dir": str(scratch / "cache"),
            },
            "augmentation": {"crop_area": [0.7, 1.0]},
            "model": {"arch": args.arch, "weights": "none"},
            "optimizer": {"learning_rate": 0.02},
            "schedule": {"kind": "one_cycle"},
            "training": {"epochs": args.epochs, "global_batch_size": 32, "microbatch_size": 16},
            "storage": {"root": str(scratch / "outputs")},
        }
    )


def compare(bundle: Bundle, outcome: ExportOutcome, test: Path) -> list[dict[str, Any]]:
    """A row for each published format, over all test images."""
    images = sorted(test.rglob("*.png"))
    pixels = np.stack([bundle.preprocess.read(path.read_bytes()) for path in images])
    labels = np.array([bundle.classes.index(path.parent.name) for path in images])
    reference = answers(load_torch_engine(bundle.folder / "torch_export" / "model.pt2"), pixels, 64)
    model_right = reference.argmax(axis=1) == labels
    rows: list[dict[str, Any]] = []
    for each, about in bundle.formats.items():
        if about.runtime == "torch":
            engine = load_torch_engine(bundle.folder / about.files[0])
        else:
            engine = load_engine(bundle, each)
        logits = answers(engine, pixels, 64)
        right = logits.argmax(axis=1) == labels
        interval = Changes.between(model_right, right).interval()
        rows.append(
            {
                "format": each,
                "precision": about.precision,
                "verdict": about.verdict,
                "top1": float(right.mean()),
                "lost": float(model_right.mean() - right.mean()),
                "lost_interval": interval,
                "agreement": float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean()),
                "relative_logits": float(np.abs(logits - reference).max() / np.abs(reference).max()),
                "megabytes": outcome.parities[each].megabytes,
                "calibration_error_val": outcome.parities[each].calibration_error,
            }
        )
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """The rows as Markdown."""
    print("| format | precision | gate | test top-1 | points lost | agreement | logits differ by | MB |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        low, high = (100 * bound for bound in row["lost_interval"])
        print(
            f"| {row['format']} | {row['precision']} | {row['verdict']} | {100 * row['top1']:.2f} % "
            f"| {100 * row['lost']:.2f} ({low:.2f} .. {high:.2f}) | {100 * row['agreement']:.2f} % "
            f"| {row['relative_logits']:.1e} | {row['megabytes']:.1f} |"
        )


def main() -> None:
    """Train, export, compare, print, write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--image-size", type=int, default=32, help="pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rd-parity-") as name:
        scratch = Path(name)
        write_garments(scratch / "garments", GARMENTS)
        job = job_for(scratch, args)
        trained = run_train(job)
        where: dict[str, Any] = {"storage": {"root": job.storage.root}, "export": {"noise_images": 200}}
        test = run_evaluate(trained.run, "test", "best", {})
        low, high = test.result.intervals["top1"]
        print(f"trained: test top-1 {test.result.metrics['top1']:.4f} ({low:.4f} .. {high:.4f})", flush=True)
        outcome = run_export(trained.run, "best", where, say=lambda text: print(text, flush=True))
        bundle = Bundle.open(outcome.uri)
        rows = compare(bundle, outcome, scratch / "garments" / "test")
        print_table(rows)
        print(f"refused: {outcome.refused}; skipped: {outcome.skipped}")
        if args.json:
            found = {"test": test.result.to_json(), "rows": rows, "refused": outcome.refused}
            args.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
