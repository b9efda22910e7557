"""Example data sets as ImageFolders, from packages that are already on the machine: nothing is downloaded."""

import gzip
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from data_pipeline.errors import DataError
from data_pipeline.listing.image_folder import SPLITS
from data_pipeline.listing.samples import key_of
from data_pipeline.splits.assign import TEST, carve

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's and Ubuntu's dataset-fashion-mnist puts its files."""

_SEED = 0
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FASHION = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle-boot"),
)


def write_digits(folder: Path) -> None:
    """Write scikit-learn's 1797 handwritten digits, 8x8 grey PNGs: 70 % train, 15 % val, 15 % test of each class.

    Files that are there are kept, so that an interrupted call is completed by the next. Raises DataError where the
    folder holds anything else.
    """
    digits = cast("Any", load_digits())
    images: NDArray[np.float64] = digits.images
    labels: NDArray[np.int64] = digits.target.astype(np.int64)
    levels = np.rint(images * (255.0 / 16.0)).astype(np.uint8)
    names = [f"{row:04d}.png" for row in range(len(labels))]
    splits = carve(_keys(names), labels, [None] * len(labels), 0.15, 0.15, _SEED)
    _write(folder, levels, [f"{SPLITS[s]}/{_DIGITS[c]}/{n}" for s, c, n in zip(splits, labels, names, strict=True)])


def write_fashion_mnist(folder: Path, source: Path = FASHION_MNIST) -> None:
    """Write Fashion-MNIST (arXiv:1708.07747), 28x28 grey PNGs: 51000 train, 9000 val, its own 10000 as test.

    Files that are there are kept. Raises DataError where `source` lacks the data, or the folder holds anything else.
    """
    learn_images, learn_labels = _idx_pair(source, "train")
    test_images, test_labels = _idx_pair(source, "t10k")
    names = [f"train-{row:05d}.png" for row in range(len(learn_labels))]
    splits = carve(_keys(names), learn_labels, [None] * len(names), 0.15, 0.0, _SEED).tolist()
    names += [f"t10k-{row:05d}.png" for row in range(len(test_labels))]
    splits += [TEST] * len(test_labels)
    labels = np.concatenate([learn_labels, test_labels])
    _write(
        folder,
        np.concatenate([learn_images, test_images]),
        [f"{SPLITS[s]}/{_FASHION[c]}/{n}" for s, c, n in zip(splits, labels, names, strict=True)],
    )


def _keys(names: list[str]) -> NDArray[np.uint64]:
    return np.array([key_of(name) for name in names], dtype=np.uint64)


def _write(folder: Path, images: NDArray[np.uint8], paths: list[str]) -> None:
    """Write each image to its path. A file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    if foreign := sorted(entry.name for entry in folder.iterdir() if entry.name not in SPLITS):
        raise DataError(f"{folder} already holds {foreign[0]!r}; example data needs a folder of its own, name another")
    for parent in {folder / path.rpartition("/")[0] for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    for image, path in zip(images, paths, strict=True):
        target = folder / path
        if not target.exists():
            unfinished = target.with_name(f".{target.name}")
            Image.fromarray(image).save(unfinished, "PNG")
            unfinished.replace(target)


def _idx_pair(source: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images = _idx(source / f"{part}-images-idx3-ubyte.gz", 3)
    return images, _idx(source / f"{part}-labels-idx1-ubyte.gz", 1).astype(np.int64)


def _idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An array of unsigned bytes in the IDX format: magic number 0, 0, 8, dimensions; then the sizes, big-endian."""
    try:
        data = gzip.decompress(path.read_bytes())
        if data[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError(f"it begins with {data[:4].hex()}")
        sizes = np.frombuffer(data, dtype=">u4", count=dimensions, offset=4)
        return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(sizes)
    except (OSError, EOFError, ValueError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise DataError(
            f"{path} {reason}; Fashion-MNIST comes from `apt-get install dataset-fashion-mnist` (Debian, Ubuntu)"
        ) from error
