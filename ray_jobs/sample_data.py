"""`resnet-dist data sample`: small public data sets as folders of images, to try things with."""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.errors import DataError
from ray_jobs.errors import ConfigError

SampleName = Literal["digits", "fashion-mnist"]

_DIGIT_LEVELS = 16
_DIGIT_SCALE = 4
_GARMENTS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)

Labelled = tuple[str, NDArray[np.uint8]]
"""A path below the sample's folder, and its grey image [H, W]."""


def write_sample(name: SampleName, folder: Path, cache: Path | None = None) -> int:
    """Write a sample as PNG files and return how many; a folder that holds it already is left as it is.

    digits has a folder for each class, fashion-mnist has them below train/ and test/. `cache` keeps the download of
    fashion-mnist. Raises ConfigError for a folder that holds something else, DataError when the download fails.
    """
    images = list(_digits() if name == "digits" else _fashion_mnist(cache or _cache()))
    if folder.exists() and _holds(folder, {path for path, _ in images}, name):
        return len(images)
    _write(images, folder)
    return len(images)


def _holds(folder: Path, wanted: set[str], name: str) -> bool:
    """Whether all of the sample is in the folder, and not nothing; ConfigError for anything else."""
    found: set[str] = set()
    for path in folder.rglob("*") if folder.is_dir() else [folder]:
        if path.is_file():
            found.add(path.relative_to(folder).as_posix())
            if not found <= wanted:
                break
    if found and found != wanted:
        raise ConfigError(f"{folder} holds something else than the sample {name}; give a folder that is not there yet")
    return bool(found)


def _write(images: list[Labelled], folder: Path) -> None:
    """Beside it first: a sample is there whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
    try:
        for path, image in images:
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(partial / path)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _digits() -> Iterator[Labelled]:
    """scikit-learn's 8x8 digits, enlarged: a random window of 8 pixels would be too coarse."""
    from sklearn.datasets import load_digits  # pyright: ignore[reportUnknownVariableType]

    digits: Any = load_digits()
    levels = np.rint(digits.images * (255.0 / _DIGIT_LEVELS)).astype(np.uint8)
    for number, (image, label) in enumerate(zip(levels, digits.target, strict=True)):
        size = (image.shape[1] * _DIGIT_SCALE, image.shape[0] * _DIGIT_SCALE)
        enlarged = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
        yield f"{label}/{number:04d}.png", np.asarray(enlarged)


def _fashion_mnist(cache: Path) -> Iterator[Labelled]:
    from torchvision.datasets import FashionMNIST

    for split in ("train", "test"):
        try:
            images: Any = FashionMNIST(str(cache), train=split == "train", download=True)
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"fashion-mnist cannot be fetched ({error}); put its four .gz files into {cache}/FashionMNIST/raw, or use "
                "the sample digits, which needs no network"
            ) from error
        for number, (image, label) in enumerate(zip(images.data.numpy(), images.targets.tolist(), strict=True)):
            yield f"{split}/{_GARMENTS[label]}/{number:05d}.png", image


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resnet-dist"
