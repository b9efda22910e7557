"""Planted wrong labels: how many of them stand in the first tenth of the list, by our ranking and by others.

    python -m benchmarks.label_errors CASE.npz [CASE.npz ...]
    python -m benchmarks.label_errors --make DATA DIR [--images 10000] [--counts 30 60 ...] [--wrong 0.05] [--similar]
    python -m benchmarks.label_errors --pixels DIR
    python -m benchmarks.label_errors --collect RUN DIR

A case holds the arrays probabilities [N, C], labels [N] and flipped bool [N]. The first form compares rankings, with
those of cleanlab where it can be imported: `pip install cleanlab` into an environment of its own (AGPL, so it is not in
the lock), then run this file with that environment's Python and PYTHONPATH set to the checkout.

The others make cases. `--make` takes images of DATA, an ImageFolder such as `resnet-dist data sample fashion-mnist`
writes, the first by a draw on their names, or so many of each of the first classes as `--counts` says. It gives some of
them another label, drawn uniformly, or with `--similar` that of the class whose mean image is the nearest. It writes
DIR/labels.csv and DIR/truth.csv, and prints how to train 5 folds with these labels. `--collect` then reads the folds'
predictions into DIR/run.npz, RUN being the folder of the cross-validation. `--pixels` needs no run: a logistic
regression on pixels, in 5 folds, makes DIR/pixels.npz.
"""

import argparse
import csv
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.inspection.label_errors import find_label_errors
from data_pipeline.views.randomness import Purpose, below, draw

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def main() -> None:
    """Make a case, or compare rankings on some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path, nargs="*", metavar="CASE.npz")
    parser.add_argument("--make", type=Path, nargs=2, metavar=("DATA", "DIR"))
    parser.add_argument("--images", type=int, default=10_000, help="of --make (default: %(default)s)")
    parser.add_argument("--counts", type=int, nargs="+", help="of --make: images of each class, in place of --images")
    parser.add_argument("--similar", action="store_true", help="of --make: wrong labels name the most similar class")
    parser.add_argument("--wrong", type=float, default=0.05, help="share of wrong labels (default: %(default)s)")
    parser.add_argument("--pixels", type=Path, metavar="DIR")
    parser.add_argument("--collect", type=Path, nargs=2, metavar=("RUN", "DIR"))
    args = parser.parse_args()
    if args.make:
        make(*args.make, args)
    if args.collect:
        collect(*args.collect)
    if args.pixels:
        classify_pixels(args.pixels)
    if args.cases:
        compare(args.cases)


def make(data: Path, folder: Path, args: argparse.Namespace) -> None:
    """Write the labels, some of them wrong, and which are; a pure function of the images and their names."""
    from data_pipeline.config import DataConfig  # noqa: PLC0415 - the other modes run in an environment without pydantic
    from data_pipeline.listing.image_folder import list_image_folder  # noqa: PLC0415
    from data_pipeline.listing.samples import key_of, sample_id_of  # noqa: PLC0415

    listed = list_image_folder(DataConfig(root=str(data))).images
    paths = np.array([sample_id_of(image.relative_path) for image in listed])
    classes = sorted({image.class_name for image in listed})
    truth = np.array([classes.index(image.class_name) for image in listed], dtype=np.int64)
    # Words that decide nothing in a training.
    bits = draw(0, Purpose.SPLIT, 0, np.array([key_of(path) for path in paths], dtype=np.uint64), 8)[:, 4:]
    order = np.argsort(bits[:, 0], kind="stable")
    chosen = np.sort(order[: args.images])
    if args.counts:
        chosen = np.concatenate([order[truth[order] == label][:count] for label, count in enumerate(args.counts)])
        classes = classes[: len(args.counts)]
    paths, truth, bits = paths[chosen], truth[chosen], bits[chosen]
    flipped = np.argsort(bits[:, 1], kind="stable")[: round(args.wrong * len(paths))]
    labels = truth.copy()
    labels[flipped] = (truth[flipped] + 1 + below(bits[flipped, 2], len(classes) - 1)) % len(classes)
    if args.similar:
        labels[flipped] = nearest_classes(read_pixels(data, paths.tolist()), truth)[truth[flipped]]
    folder.mkdir(parents=True, exist_ok=True)
    named = zip(paths.tolist(), labels.tolist(), truth.tolist(), strict=True)
    rows = [(path, classes[label], classes[true]) for path, label, true in named]
    # All in train: without the column, a part would be kept for test, in no fold.
    write_csv(folder / "labels.csv", ("path", "label", "split"), [(path, label, "train") for path, label, _ in rows])
    write_csv(folder / "truth.csv", ("path", "label", "truth"), rows)
    (folder / "root.txt").write_text(f"{data.absolute()}\n")
    print(f"{len(rows)} images of {len(classes)} classes, {len(flipped)} labels wrong; now:")
    print_commands(data.absolute(), folder.absolute())


def print_commands(data: Path, folder: Path) -> None:
    """From labels to predictions that no network made of its own images."""
    size = "--data.image-size 32 --model.arch resnet18 --model.weights none --training.epochs 8"
    print(
        f"resnet-dist train --name flips --data.root {data} --data.labels {folder / 'labels.csv'} --data.folds 5 "
        f"{size} --storage.root {folder}\n"
        f"for fold in 0 1 2 3 4; do resnet-dist evaluate {folder}/runs/flips-fold$fold --split val; done\n"
        f"python -m benchmarks.label_errors --collect {folder / 'runs/flips'} {folder}\n"
        f"python -m benchmarks.label_errors {folder / 'run.npz'}"
    )


def nearest_classes(images: Array, labels: Labels) -> Labels:
    """[C] for each class the one whose mean image is the nearest to its own."""
    means = np.stack([images[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    distances = np.square(means[:, None] - means[None]).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1)


def read_pixels(root: Path, paths: list[str]) -> Array:
    """[N, pixels] grey values in 0..1 of images that all have one size."""
    from PIL import Image  # noqa: PLC0415 - cases are compared without

    return np.stack([np.asarray(Image.open(root / path).convert("L")).ravel() for path in paths]) / 255.0


def collect(run: Path, folder: Path) -> None:
    """Join the folds' predictions, each of images that its network has not seen, with what is known of the labels."""
    from pyarrow import parquet  # noqa: PLC0415 - the other modes do without

    record: dict[str, Any] = json.loads((run / "folds.json").read_text())
    truth = {row["path"]: row for row in read_csv(folder / "truth.csv")}
    flipped: list[bool] = []
    probabilities: list[list[float]] = []
    labels: list[int] = []
    for uri in record["runs"]:
        fold = Path(uri.removeprefix("file://"))
        classes = json.loads((fold / "dataset.json").read_text())["classes"]
        columns = parquet.read_table(fold / "evaluation" / "val.predictions.parquet").to_pydict()
        for sample_id, label, row in zip(columns["sample_id"], columns["label"], columns["probabilities"], strict=True):
            probabilities.append(row)
            labels.append(classes.index(label))
            flipped.append(truth[sample_id]["label"] != truth[sample_id]["truth"])
    write_case(folder / "run.npz", np.array(probabilities), np.array(labels), np.array(flipped))


def classify_pixels(folder: Path) -> None:
    """Predict each image by a logistic regression of the four folds that it is not in."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - cases are compared without
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    warnings.simplefilter("ignore", ConvergenceWarning)  # it ends early on purpose: that is regularisation enough
    root, rows = Path((folder / "root.txt").read_text().strip()), read_csv(folder / "truth.csv")
    classes = sorted({row["label"] for row in rows})
    labels = np.array([classes.index(row["label"]) for row in rows], dtype=np.int64)
    images = read_pixels(root, [row["path"] for row in rows])
    keys = np.arange(len(rows), dtype=np.uint64)
    folds = below(draw(0, Purpose.SPLIT, 1, keys, 1)[:, 0], 5)
    probabilities = np.zeros((len(rows), len(classes)))
    for fold in range(5):
        model = LogisticRegression(C=0.1, max_iter=60).fit(images[folds != fold], labels[folds != fold])
        probabilities[np.ix_(folds == fold, model.classes_)] = model.predict_proba(images[folds == fold])
    flipped = np.array([row["label"] != row["truth"] for row in rows])
    write_case(folder / "pixels.npz", probabilities, labels, flipped)


def self_confidence(probabilities: Array, labels: Labels) -> Array:
    """1 where the label has no probability, as all of these scores: float [N]."""
    return 1.0 - probabilities[np.arange(len(labels)), labels]


def normalised_margin(probabilities: Array, labels: Labels) -> Array:
    """By how much the best other class is above the label."""
    rows, others = np.arange(len(labels)), probabilities.copy()
    others[rows, labels] = -1.0
    return (1.0 + others.max(axis=1) - probabilities[rows, labels]) / 2.0


def weighted_entropy(probabilities: Array, labels: Labels) -> Array:
    """Confidence-weighted entropy: the normalised entropy over the label's probability."""
    logarithms = np.log(np.maximum(probabilities, 1e-45))
    entropy = -(probabilities * logarithms).sum(axis=1) / np.log(probabilities.shape[1])
    ratio = entropy / np.maximum(probabilities[np.arange(len(labels)), labels], 1e-45)
    return ratio / (1.0 + ratio)


def odds(probabilities: Array, labels: Labels) -> Array:
    """Ours: the best other class's probability against the label's."""
    return find_label_errors(probabilities, labels).score


def adjusted(probabilities: Array, labels: Labels) -> Array:
    """Probabilities less their class's mean over the images with that label, raised to be positive, rows of sum 1."""
    classes = probabilities.shape[1]
    means = [
        probabilities[labels == label, label].mean() if np.any(labels == label) else 1.0 for label in range(classes)
    ]
    raised = probabilities - np.array(means) + max(means)
    return raised / raised.sum(axis=1, keepdims=True)


SCORES: dict[str, Callable[[Array, Labels], Array]] = {
    "odds": odds,
    "self-confidence": self_confidence,
    "normalised margin": normalised_margin,
    "weighted entropy": weighted_entropy,
}


def rankings(probabilities: Array, labels: Labels) -> dict[str, Array]:
    """Scores [N] by name, those of cleanlab too where it is installed."""
    found = {name: score(probabilities, labels) for name, score in SCORES.items()}
    raised = adjusted(probabilities, labels)
    found |= {f"{name}, adjusted": score(raised, labels) for name, score in SCORES.items()}
    try:
        from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415 - need not be there
    except ImportError:
        return found
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        found[f"cleanlab {method}"] = 1.0 - get_label_quality_scores(labels, probabilities, method=method)
        if method != "confidence_weighted_entropy":
            quality = get_label_quality_scores(labels, probabilities, method=method, adjust_pred_probs=True)
            found[f"cleanlab {method}, adjusted"] = 1.0 - quality
    return found


def compare(cases: list[Path]) -> None:
    """Print a row for each ranking: the share of wrong labels in the first tenth, and the average precision."""
    tenths: dict[str, list[float]] = {}
    precisions: dict[str, list[float]] = {}
    for path in cases:
        arrays = np.load(path)
        probabilities, labels, flipped = (arrays[name] for name in ("probabilities", "labels", "flipped"))
        probabilities = probabilities.astype(np.float64)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        errors = find_label_errors(probabilities, labels)
        hits = int(np.count_nonzero(errors.likely & flipped))
        print(
            f"{path}: {len(labels)} images, {np.count_nonzero(flipped)} labels wrong; estimated share "
            f"{errors.share:.3f}; likely {np.count_nonzero(errors.likely)}, of them wrong {hits}"
        )
        print_pruned(probabilities, labels, flipped)
        for name, score in rankings(probabilities, labels).items():
            order = errors.order if name == "odds" else np.argsort(-score, kind="stable")
            tenths.setdefault(name, []).append(flipped[order[: len(labels) // 10]].sum() / flipped.sum())
            precisions.setdefault(name, []).append(average_precision(flipped[order]))
    print(f"| {'ranking':<40} | found in the first tenth | average precision |\n|---|---|---|")
    for name, shares in tenths.items():
        print(f"| {name:<40} | {np.mean(shares):24.1%} | {np.mean(precisions[name]):17.3f} |")
    if not any(name.startswith("cleanlab") for name in tenths):
        print(
            "cleanlab is not installed: pip install cleanlab (AGPL) into an environment of its own, and run this there"
        )


def print_pruned(probabilities: Array, labels: Labels, flipped: NDArray[np.bool_]) -> None:
    """What the paper's joint and its "both" take to be wrong, where cleanlab is installed."""
    try:
        from cleanlab.count import estimate_joint  # noqa: PLC0415 - need not be there
        from cleanlab.filter import find_label_issues  # noqa: PLC0415
    except ImportError:
        return
    found = find_label_issues(labels, probabilities, filter_by="both", n_jobs=1)
    share, hits = 1.0 - np.trace(estimate_joint(labels, probabilities)), np.count_nonzero(found & flipped)
    print(f"  cleanlab: estimated share {share:.3f}; both {np.count_nonzero(found)}, of them wrong {hits}")


def average_precision(is_wrong: NDArray[np.bool_]) -> float:
    """Mean, over the wrong labels of a ranking, of the precision down to each."""
    places = np.flatnonzero(is_wrong)
    return float(np.mean(np.arange(1, len(places) + 1) / (places + 1)))


def write_case(path: Path, probabilities: Array, labels: Labels, flipped: NDArray[np.bool_]) -> None:
    """See the module's text."""
    np.savez(path, probabilities=probabilities, labels=labels, flipped=flipped)
    print(
        f"{path}: {len(labels)} images, top-1 by the given labels {(probabilities.argmax(axis=1) == labels).mean():.3f}"
    )


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """UTF-8, a header and one line a row."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows, by column."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
