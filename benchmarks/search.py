"""What a search is worth: its best trial against the default on images that no trial has seen, and what it took.

    python -m benchmarks.search [--data fashion-mnist] [--trials 40] [--epochs 16] [--reduction-factor 4]
        [--image-size 32] [--json FILE] [--keep DIR]

ResNet-18 with random weights, two trials at a time where there are two cores, successive halving (ASHA) by epochs. A
full search would train every trial for all epochs. The images are scikit-learn's handwritten digits, or 150 garments of
each class of Fashion-MNIST with 50 to validate and 200 to test.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.garments import write_garments
from data_pipeline.example_data import write_digits
from ray_jobs.cli.show_search import show_search
from ray_jobs.job.toml import check
from ray_jobs.search.toml import read_search
from ray_jobs.search.tune import run_tune

SPACE = """
[space]
"optimizer.learning_rate" = { log_uniform = [0.001, 0.3] }
"optimizer.weight_decay" = { log_uniform = [1e-6, 1e-2] }
"schedule.kind" = { categorical = ["cosine", "one_cycle", "polynomial"] }
"schedule.warmup_epochs" = { uniform = [0.0, 2.0], when = { "schedule.kind" = ["cosine", "polynomial"] } }
"schedule.one_cycle_rise" = { uniform = [0.1, 0.5], when = { "schedule.kind" = ["one_cycle"] } }
"model.dropout" = { uniform = [0.0, 0.5] }
"training.label_smoothing" = { categorical = [0.0, 0.05, 0.1] }
"training.mixup_alpha" = { categorical = [0.0, 0.1, 0.2] }
"augmentation.crop_area" = { categorical = [[0.35, 1.0], [0.6, 1.0], [0.9, 1.0]] }
"""
GARMENTS = {"train": 150, "val": 50, "test": 200}
"""Of each class of Fashion-MNIST."""


def main() -> None:
    """Search, print, write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["digits", "fashion-mnist"], default="digits")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=16, help="most of a trial (default: %(default)s)")
    parser.add_argument("--reduction-factor", type=float, default=4.0, help="of ASHA (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=32, help="pixels (default: %(default)s)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="where the search's report and table are copied to")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rd-search-") as name:
        scratch = Path(name)
        images = scratch / args.data
        if args.data == "digits":
            write_digits(images)
        else:
            write_garments(images, GARMENTS)
        file = scratch / "search.toml"
        file.write_text(SPACE)
        job = check(
            {
                "name": args.data,
                "data": {"root": str(images), "image_size": args.image_size, "cache_dir": str(scratch / "cache")},
                "augmentation": {"horizontal_flip": 0.0},
                "model": {"arch": "resnet18", "weights": "none"},
                "training": {"epochs": args.epochs, "global_batch_size": 64, "microbatch_size": 32},
                "checkpoint": {"every_epochs": args.epochs},
                "storage": {"root": str(scratch / "outputs")},
            }
        )
        config, space = read_search(file, {"trials": args.trials, "reduction_factor": args.reduction_factor})
        began = perf_counter()
        outcome = run_tune(job, config, space)
        seconds = perf_counter() - began
        show_search(outcome)
        place = Path(outcome.uri)
        found = json.loads((place / "search.json").read_text())
        trained, full = found["epochs"]["trained"], found["epochs"]["full_search"]
        print(f"epochs: {trained} of {full}, {full / trained:.1f}x fewer than a full search")
        print(f"pool: {json.dumps(found['pool'])}; {seconds:.0f} s in all")
        print(f"test: {json.dumps(found['test'], indent=2)}")
        if args.json:
            args.json.write_text(json.dumps({key: found[key] for key in ("epochs", "pool", "test", "reuse")}, indent=2))
        if args.keep:
            args.keep.mkdir(parents=True, exist_ok=True)
            for each in ("search.json", "trials.parquet", "best.toml", "report/index.html"):
                shutil.copy(place / each, args.keep / Path(each).name)


if __name__ == "__main__":
    main()
