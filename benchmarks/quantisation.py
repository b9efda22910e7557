"""What 8 bits cost in accuracy, by ranges alone and by training, over several trained runs, on the same test images.

    python -m benchmarks.quantisation OUTPUT RUN [RUN ...] [--epochs 2] [--cpus 1] [--json FILE]

OUTPUT is the storage root of the RUNs, each trained with a test split (`benchmarks.compression` trains such teachers).
Each is quantised by `resnet-dist compress quantize --always` and exported in fp32 and int8. Losses are of the files in
ONNX Runtime and OpenVINO against the run's own in fp32; a row pools the runs: images that one of two models alone
answers rightly are added up, and the 95 % interval is that of paired proportions
(`resnet_dist.evaluation.paired_interval`).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ray_jobs import api
from ray_jobs.bundles.export_data import RunData
from ray_jobs.compression.names import result_name
from ray_jobs.data.calibration_images import read_images
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.lookup import job_of_run
from resnet_dist.evaluation.paired_interval import Changes
from resnet_dist.export.config import Format
from resnet_dist.export.parity import answers
from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.engines import load_engine

FORMATS: tuple[Format, ...] = ("onnxruntime_int8", "openvino_int8")
BATCH = 64


def right(bundle: Path, wanted: Format, run: RunDirectory, root: str) -> NDArray[np.bool_]:
    """bool [N]: which of the run's test images a bundle's format answers rightly."""
    job = job_of_run(run, {"storage": {"root": root}})
    data = RunData.of(run, job)
    if data.test is None:
        sys.exit(f"{run.uri} has no test split")
    images = read_images(run.read_preprocess(), data.test)
    engine = load_engine(Bundle.open(bundle), wanted)
    return answers(engine, images, BATCH).argmax(axis=1) == data.test.labels


def quantised(root: str, name: str, epochs: int, cpus: int) -> None:
    """`compress quantize --always`, or nothing where that is done."""
    words = ["compress", "quantize", name, "--always", "--training.epochs", str(epochs), "--storage.root", root]
    words += ["--cluster.cpus-per-worker", str(cpus)] if cpus else []
    done = subprocess.run([sys.executable, "-m", "ray_jobs", *words], check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}")


def exported(root: str, name: str, formats: tuple[Format, ...]) -> Path:
    """The bundle of a run."""
    where = {"storage": {"root": root}, "export": {"formats": list(formats)}}
    made = api.export(name, changes=where)
    if made.refused:
        sys.exit(f"{name}: {made.refused}")
    return Path(made.uri)


def main() -> None:
    """Quantise, export, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=0, help="of each training; 0: those of the machine")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    root = str(args.output)
    pooled, megabytes = dict[str, Changes](), dict[str, list[float]]()
    for name in args.runs:
        quantised(root, name, args.epochs, args.cpus)
        trained = result_name(name, "quantize")
        plain = exported(root, name, ("onnx", *FORMATS))
        by_row = {f"{each}, ranges alone": (plain, each, name) for each in FORMATS}
        by_row |= {f"{each}, trained": (exported(root, trained, FORMATS), each, trained) for each in FORMATS}
        first = right(plain, "onnx", RunDirectory.named(root, name), root)
        size = (plain / "onnx/model.onnx").stat().st_size
        print(f"{name}: top-1 {100 * first.mean():.2f} % of {len(first)} test images", flush=True)
        for row, (bundle, wanted, run) in by_row.items():
            own = Changes.between(first, right(bundle, wanted, RunDirectory.named(root, run), root))
            before = pooled.get(row, Changes(0, 0, 0))
            pooled[row] = Changes(before.lost + own.lost, before.won + own.won, before.samples + own.samples)
            bytes_ = sum(path.stat().st_size for path in (bundle / wanted).iterdir())
            megabytes.setdefault(row, []).append(bytes_ / size)
            print(f"  {row}: {own.lost} lost, {own.won} won", flush=True)
    found = {}
    for row, changes in pooled.items():
        low, high = changes.interval()
        share = float(np.mean(megabytes[row]))
        found[row] = {"lost": changes.lost, "won": changes.won, "samples": changes.samples, "bytes": share}
        print(
            f"{row}: {100 * changes.loss:+.3f} points ({100 * low:+.3f} .. {100 * high:+.3f}), "
            f"{changes.lost} lost, {changes.won} won of {changes.samples}, {share:.3f} of the bytes of onnx"
        )
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
