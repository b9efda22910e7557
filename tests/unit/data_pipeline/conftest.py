"""What tests of sources share: folders of images with their samples, photographs, and how close two images are."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.config import DataConfig
from data_pipeline.listing.samples import Samples, key_of, sample_id_of
from resnet_dist.runtime.image_file import decode_rgb, image_header

MAX_PIXELS = 10**7


@pytest.fixture(scope="session")
def decode():
    """The runtime's decoding of 12-bit cameras' images, as the composition root hands it in."""
    return partial(decode_rgb, bit_depth=12, max_pixels=MAX_PIXELS)


@pytest.fixture(scope="session")
def samples_in() -> Callable[[Path, dict[bytes, bytes]], Samples]:
    """Writes files by name into a folder and lists them; labels count 0, 1, 2, 0, 1, ..."""

    def write(folder: Path, files: dict[bytes, bytes]) -> Samples:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(files, key=sample_id_of)
        for name in names:
            Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(files[name])
        headers = [image_header(files[name], max_pixels=MAX_PIXELS) for name in names]
        ids = tuple(sample_id_of(name) for name in names)
        return Samples(
            root=str(folder),
            classes=("a", "b", "c"),
            sample_ids=ids,
            keys=np.array([key_of(sample_id) for sample_id in ids], dtype=np.uint64),
            labels=np.arange(len(ids), dtype=np.int64) % 3,
            sizes=np.array([header[:2] for header in headers], dtype=np.int32).reshape(-1, 2),
            plain=np.array([header[2] for header in headers], dtype=np.bool_),
            content=("",) * len(ids),
        )

    return write


@pytest.fixture(scope="session")
def small_photos(samples_in, image_files, tmp_path_factory) -> Samples:
    """21 small JPEGs and PNGs of various shapes."""
    files = {
        f"{n:02d}.{kind}".encode(): image_files.encode(image_files.photo(40 + 5 * n, 90 - 2 * n, seed=n), kind)
        for n, kind in ((n, "JPEG" if n % 3 else "PNG") for n in range(21))
    }
    return samples_in(tmp_path_factory.mktemp("small"), files)


@pytest.fixture(scope="session")
def photographs(samples_in, image_files, tmp_path_factory) -> Samples:
    """Two real photographs, 640 x 427, and parts of them, as JPEG of two subsamplings and as PNG."""
    from sklearn.datasets import load_sample_images  # noqa: PLC0415 - slow to import

    files: dict[bytes, bytes] = {}
    for n, photo in enumerate(load_sample_images().images):
        for part, pixels in (("all", photo), ("part", photo[60:380, 100:330]), ("strip", photo[200:300, :400])):
            for kind, options in (
                ("JPEG", {"quality": 90, "subsampling": 2}),
                ("JPEG", {"quality": 75, "subsampling": 0}),
                ("PNG", {}),
            ):
                files[f"{n}-{part}-{len(files)}.{kind}".encode()] = image_files.encode(pixels, kind, **options)
    return samples_in(tmp_path_factory.mktemp("photographs"), files)


@pytest.fixture(scope="session")
def assert_close() -> Callable[[torch.Tensor, torch.Tensor, DataConfig], None]:
    """Normalised images [B, 3, H, W] differ by no more than every decoder and graph may."""

    def check(images: torch.Tensor, others: torch.Tensor, data: DataConfig) -> None:
        assert images.shape == others.shape
        levels = ((images - others).abs() * torch.tensor(data.std).reshape(1, 3, 1, 1) * 255).numpy()
        assert levels.mean() <= 0.5
        assert np.quantile(levels, 0.999) <= 16.0

    return check
