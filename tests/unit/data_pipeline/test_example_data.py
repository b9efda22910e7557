import gzip
import os
import signal
import struct
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from data_pipeline.errors import DataError
from data_pipeline.example_data import FASHION_MNIST, write_digits, write_fashion_mnist


def files_of(folder):
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_digits_are_an_image_folder_of_scikit_learns_images(tmp_path):
    write_digits(tmp_path / "digits")
    files = files_of(tmp_path / "digits")
    assert len(files) == 1797
    assert Counter(path.split("/")[0] for path in files) == {"train": 1259, "val": 269, "test": 269}
    classes = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    digits = load_digits()
    for path in sorted(files)[::50]:
        row = int(path[-8:-4])
        image = Image.open(tmp_path / "digits" / path)
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), np.rint(digits.images[row] * 255 / 16))
        assert path.split("/")[1] == classes[digits.target[row]]
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        for name, label in zip(classes, range(10), strict=True):
            count = sum(path.startswith(f"{split}/{name}/") for path in files)
            assert abs(count - share * (digits.target == label).sum()) <= 1.5


def test_writing_twice_changes_nothing_and_a_missing_file_comes_back(tmp_path):
    write_digits(tmp_path)
    first = files_of(tmp_path)
    missing = sorted(first)[100]
    (tmp_path / missing).unlink()
    write_digits(tmp_path)
    second = files_of(tmp_path)
    assert first.keys() == second.keys()
    assert {path for path in first if first[path] != second[path]} <= {missing}


def test_a_killed_writer_leaves_whole_files_and_the_next_completes_them(tmp_path):
    folder = tmp_path / "digits"
    code = "import sys, pathlib, data_pipeline.example_data as data; data.write_digits(pathlib.Path(sys.argv[1]))"
    writer = subprocess.Popen([sys.executable, "-c", code, str(folder)])
    try:
        while not any(folder.rglob("*.png")) and writer.poll() is None:
            os.sched_yield()
        writer.send_signal(signal.SIGKILL)
    finally:
        writer.wait()
    assert 0 < len(files_of(folder)) <= 1797
    for path in folder.rglob("[!.]*.png"):
        Image.open(path).load()
    write_digits(folder)
    assert len([path for path in files_of(folder) if not path.rpartition("/")[2].startswith(".")]) == 1797


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"already holds 'holiday\.jpg'"):
        write_digits(tmp_path)
    assert files_of(tmp_path).keys() == {"holiday.jpg"}


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


def write_source(folder):
    rng = np.random.default_rng(0)
    source = {}
    for part, count in (("train", 100), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
        source[part] = images, labels
    return source


def test_fashion_mnist_is_read_from_idx_files(tmp_path):
    source = write_source(tmp_path)
    folder = tmp_path / "fashion"
    write_fashion_mnist(folder, tmp_path)
    files = files_of(folder)
    assert Counter(path.split("/")[0] for path in files) == {"train": 80, "val": 20, "test": 20}
    assert {path.split("/")[1] for path in files} == {
        *("t-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle-boot"),
    }
    for path in files:
        split, name, file = path.split("/")
        part, row = file.removesuffix(".png").split("-")
        assert (split == "test") == (part == "t10k")
        images, labels = source[part]
        assert np.array_equal(np.asarray(Image.open(folder / path)), images[int(row)])
        assert (name == "ankle-boot") == (labels[int(row)] == 9)


def test_fashion_mnist_that_is_missing_or_damaged_names_the_package(tmp_path):
    with pytest.raises(DataError, match=r"is missing; .*apt-get install dataset-fashion-mnist"):
        write_fashion_mnist(tmp_path / "out", tmp_path / "nowhere")
    write_source(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    for damage in (
        whole[:100],
        b"no gzip",
        gzip.compress(b"\0\0\x0d\3" + bytes(20)),
        gzip.compress(bytes([0, 0, 8, 3])),
    ):
        images.write_bytes(damage)
        with pytest.raises(DataError, match=r"cannot be read .*apt-get install dataset-fashion-mnist"):
            write_fashion_mnist(tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not FASHION_MNIST.exists(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_whole_of_fashion_mnist(tmp_path):
    write_fashion_mnist(tmp_path)
    counts = Counter(path.split("/")[0] for path in files_of(tmp_path))
    assert counts == {"train": 51_000, "val": 9_000, "test": 10_000}
