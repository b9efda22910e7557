"""What of a folder is left out, by the ends of names."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.config import DataConfig
from data_pipeline.listing.image_folder import list_image_folder
from data_pipeline.listing.index import index_folder
from data_pipeline.listing.scan import Readers
from resnet_dist.runtime.image_file import decode_rgb, image_header

READERS = Readers(partial(decode_rgb, bit_depth=None, max_pixels=10**6), partial(image_header, max_pixels=10**6))


def write(root: Path, *names: str) -> DataConfig:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"anything")
    return DataConfig(root=str(root), cache_dir=str(root.parent / "cache"))


@pytest.mark.parametrize("splits", [("",), ("train/", "val/")])
def test_files_in_class_folders_that_are_no_images_are_counted_by_the_end_of_their_names(
    tmp_path: Path, splits: tuple[str, ...]
) -> None:
    names = [
        *("a/1.png", "a/2.JPG", "a/1.HEIC", "a/2.heic", "a/deep/er/3.HeIc", "b/README", "b/notes.txt"),
        *("b/x.tar.gz", "b/folder.heic/1.png", "b/folder.heic/2.cr2", "b/dot.", "b/.hidden.heic", "b/.dir/1.heic"),
    ]
    data = write(tmp_path / "root", *[split + name for split in splits for name in names])
    write(tmp_path / "root", "beside.heic", *[f"{split}beside.heic" for split in splits if split])
    listing = list_image_folder(data)
    times = len(splits)
    found = {".heic": 3, "": 1, ".txt": 1, ".gz": 1, ".cr2": 1, ".": 1}
    assert listing.left_out == {end: count * times for end, count in found.items()}
    beside = 1 + sum(bool(split) for split in splits)
    assert listing.ignored == sum(listing.left_out.values()) + beside
    assert len(listing.images) == 3 * times


def test_links_count_by_their_own_names_wherever_they_lead(tmp_path: Path) -> None:
    data = write(tmp_path / "root", "a/1.png", "b/1.png")
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere, "1.nef", "2.nef", "3.png")
    (tmp_path / "root" / "a" / "broken.cr2").symlink_to(tmp_path / "nowhere")
    (tmp_path / "root" / "a" / "link.dng").symlink_to(elsewhere / "1.nef")
    (tmp_path / "root" / "b" / "folder.raw").symlink_to(elsewhere)
    listing = list_image_folder(data)
    assert listing.left_out == {".cr2": 1, ".dng": 1, ".nef": 2}
    assert len(listing.images) == 3


def test_names_that_are_no_text_are_counted(tmp_path: Path) -> None:
    data = write(tmp_path / "root", "a/1.png", "b/1.png")
    folder = os.fsencode(tmp_path / "root" / "a")
    for name in (b"x.\xff", b"y.\xff", "z.É".encode()):
        Path(os.fsdecode(folder + b"/" + name)).touch()
    left_out = list_image_folder(data).left_out
    assert left_out[r".\xff"] == 2
    assert sum(left_out.values()) == 3


def test_nothing_left_out_is_nothing_counted(tmp_path: Path) -> None:
    assert not list_image_folder(write(tmp_path / "root", "a/1.png", "b/1.gif")).left_out


def test_a_dataset_knows_them_sorted(tmp_path: Path, image_files: Any) -> None:
    data = write(tmp_path / "root", "a/1.txt", "a/2.heic", "b/3.txt", "b/4")
    for name in "ab":
        (tmp_path / "root" / name / "1.png").write_bytes(image_files.encode(image_files.photo(9, 9), "PNG"))
    dataset = index_folder(data, READERS)
    assert dataset.left_out == (("", 1), (".heic", 1), (".txt", 2))
    assert dataset.ignored == 4
