"""Which images of different splits are copies to an oracle that knows no hash: by their correlation.

    python -m benchmarks.leaks FOLDER [LABELS.csv ...] [--side 64] [--json FILE]

FOLDER has class folders. The splits are those that a training would draw, and those of each LABELS file (`resnet-dist
data split --groups duplicates`). Two images are copies to the oracle where their normalised cross-correlation reaches
0.9 at some shift of at most 10 % of a side, at SIDE pixels, over what overlaps. Light that is alike makes different
parts correlate, so it is measured twice: of the images, and without their light, a Gaussian mean over a tenth of a
side.
"""

import argparse
import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from ray_jobs.data.prepare import prepare_data
from ray_jobs.job.toml import check

LIMIT = 0.9
SHIFT = 0.1


def correlations(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, N]: the largest normalised cross-correlation over all shifts, of images [N, side, side]."""
    side = images.shape[1]
    most = int(SHIFT * side)
    best = np.full((len(images), len(images)), -1.0, np.float32)
    for down in range(most + 1):
        for right in range(-most, most + 1):
            low, high = max(0, right), side + min(0, right)
            one = _normal(images[:, down:, low:high])
            other = _normal(images[:, : side - down, low - right : high - right])
            product = one @ other.T
            np.maximum(best, product, out=best)
            np.maximum(best, product.T, out=best)
    return best


def _normal(images: NDArray[np.float32]) -> NDArray[np.float32]:
    flat = images.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6)


def splits_of(folder: Path, labels: Path | None) -> tuple[dict[str, str], dict[str, str]]:
    """Split and class by sample id: a training's own, or those of a labels file."""
    if labels is not None:
        with labels.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {row["path"]: row["split"] for row in rows}, {row["path"]: row["label"] for row in rows}
    dataset = prepare_data(check({"data": {"root": str(folder), "source": "reference"}})).dataset
    samples = dataset.samples
    names = [samples.classes[label] for label in samples.labels.tolist()]
    splits = [split or "" for split in dataset.splits]
    return dict(zip(samples.sample_ids, splits, strict=True)), dict(zip(samples.sample_ids, names, strict=True))


def main() -> None:
    """Correlate, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("labels", type=Path, nargs="*")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    drawn, classes = splits_of(args.folder, None)
    ids = sorted(drawn)
    pictures = [
        Image.open(args.folder / each).convert("L").resize((args.side, args.side), Image.Resampling.BOX) for each in ids
    ]
    images = np.stack([np.asarray(picture, np.float32) for picture in pictures])
    light = gaussian_filter(images, (0, SHIFT * args.side, SHIFT * args.side))
    found: list[dict[str, object]] = []
    for kind, measured in (("images", images), ("without light", images - light)):
        first, second = np.nonzero(np.triu(correlations(measured) > LIMIT, 1))
        for labels in (None, *args.labels):
            split, of_class = (drawn, classes) if labels is None else splits_of(args.folder, labels)
            across = [(ids[a], ids[b]) for a, b in zip(first, second, strict=True) if split[ids[a]] != split[ids[b]]]
            figures: dict[str, object] = {
                "oracle": kind,
                "splits": "drawn" if labels is None else labels.name,
                "pairs": len(first),
                "across splits": len(across),
                "least of a class in a split": min(Counter((of_class[each], split[each]) for each in ids).values()),
                "examples": across[:5],
            }
            print(*(f"{name}: {value}" for name, value in figures.items()), sep="; ")
            found.append(figures)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
