import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.config import DataConfig
from data_pipeline.errors import DataError
from data_pipeline.listing.index import index_folder
from data_pipeline.listing.samples import key_of, relative_path_of
from data_pipeline.listing.scan import Readers
from resnet_dist.runtime.image_file import decode_rgb, image_header

DECODE = partial(decode_rgb, bit_depth=None, max_pixels=10**6)
HEADER = partial(image_header, max_pixels=10**6)


@pytest.fixture
def make(image_files, tmp_path):
    """Makes a folder of small images, each different."""
    root = tmp_path / "data"
    root.mkdir()

    def make_folder(*paths):
        for seed, path in enumerate(paths):
            place(root, path, image_files.encode(image_files.photo(9, 7, seed=seed), "PNG"))
        return root

    return make_folder


def place(root, path, data):
    file = root / (os.fsdecode(path) if isinstance(path, bytes) else path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


@pytest.fixture
def index(tmp_path):
    def index_it(root, probe=None, **settings):
        data = DataConfig(root=str(root), cache_dir=str(tmp_path / "cache"), **settings)
        return index_folder(data, Readers(DECODE, HEADER, probe))

    return index_it


def test_class_folders_become_rows_sorted_by_id(make, index):
    root = make("dog/b.png", "dog/a.PNG", "cat/z.png", "cat/deep/er/y.png")
    dataset = index(root)
    samples = dataset.samples
    assert samples.classes == ("cat", "dog")
    assert samples.sample_ids == ("cat/deep/er/y.png", "cat/z.png", "dog/a.PNG", "dog/b.png")
    assert samples.labels.tolist() == [0, 0, 1, 1]
    assert samples.keys.tolist() == [key_of(sample_id) for sample_id in samples.sample_ids]
    assert samples.sizes.tolist() == [[9, 7]] * 4
    assert samples.plain.all()
    assert dataset.splits == (None,) * 4
    assert dataset.groups == (None,) * 4
    assert dataset.unreadable == ()
    assert dataset.ignored == 0
    assert len(dataset) == 4
    for dtype, column in ((np.uint64, samples.keys), (np.int64, samples.labels), (np.int32, samples.sizes)):
        assert column.dtype == dtype
    for row in range(4):
        assert Path(os.fsdecode(samples.path(row))).exists()


def test_split_folders_give_the_splits(make, index):
    root = make("train/a/1.png", "train/b/1.png", "train/b/2.png", "val/b/1.png", "test/a/1.png")
    dataset = index(root)
    assert dataset.splits == ("test", "train", "train", "train", "val")
    assert dataset.samples.labels.tolist() == [0, 0, 1, 1, 1]
    assert dataset.rows("train").tolist() == [1, 2, 3]
    assert dataset.rows("val").tolist() == [4]


def test_hidden_and_other_files_are_ignored_and_the_latter_counted(make, index):
    root = make("train/a/1.png", "train/b/1.png", ".cache/a/1.png", "train/.git/1.png", "train/a/.hidden.png")
    for path in ("README.md", "train/labels.csv", "train/a/notes.txt", "train/a/png", "annotations/1.json"):
        place(root, path, b"text")
    dataset = index(root)
    assert dataset.samples.sample_ids == ("train/a/1.png", "train/b/1.png")
    assert dataset.samples.classes == ("a", "b")
    assert dataset.ignored == 5


@pytest.mark.parametrize("extension", ["jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "ppm", "gif", "PnG", "JPEG"])
def test_extensions_of_any_case_are_images(make, index, image_files, extension):
    root = make("a/1.png", "b/1.png")
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(extension.lower(), extension.upper())
    place(root, f"a/2.{extension}", image_files.encode(image_files.photo(5, 4), kind))
    assert len(index(root)) == 3


AWKWARD = [
    b" two  spaces ",
    b'it\'s "quoted"',
    b"new\nline",
    b"\xff\xfe",
    b"back\\slash",
    b"\\xff",
    b"-rf",
    "é".encode(),
]


def test_names_of_any_bytes_work(make, index):
    root = make(*(b"%s/%s.png" % (name, name) for name in AWKWARD))
    dataset = index(root)
    found = {relative_path_of(sample_id) for sample_id in dataset.samples.sample_ids}
    assert found == {b"%s/%s.png" % (name, name) for name in AWKWARD}
    assert len(dataset.samples.classes) == len(AWKWARD)
    assert list(dataset.samples.classes) == sorted(dataset.samples.classes)
    for row in range(len(dataset)):
        assert Path(os.fsdecode(dataset.samples.path(row))).exists()


def test_links_are_followed_but_not_in_circles(make, index, image_files, tmp_path):
    root = make("train/a/1.png", "train/b/1.png")
    elsewhere = tmp_path / "elsewhere"
    place(elsewhere, "x.png", image_files.encode(image_files.photo(3, 3), "PNG"))
    (root / "train/a/file.png").symlink_to(elsewhere / "x.png")
    (root / "train/a/folder").symlink_to(elsewhere)
    (root / "train/a/again").symlink_to(elsewhere)
    (root / "train/c").symlink_to(elsewhere)
    for name, target in {"self": "self", "up": "..", "root": "../..", "class": "../a", "here": "."}.items():
        (root / "train/a" / name).symlink_to(target)
    (elsewhere / "back").symlink_to(root / "train/a")
    dataset = index(root)
    ids = dataset.samples.sample_ids
    assert ids[:3] == ("train/a/1.png", "train/a/again/x.png", "train/a/file.png")
    assert sum(sample_id.startswith("train/a/") for sample_id in ids) == 3
    assert "train/c/x.png" in ids


def test_a_link_to_nowhere_and_a_pipe_are_unreadable(make, index):
    root = make("a/1.png", "b/1.png")
    (root / "a/2.png").symlink_to("gone.png")
    os.mkfifo(root / "a/3.png")
    dataset = index(root, on_unreadable="skip")
    (link, why_link), (pipe, why_pipe) = dataset.unreadable
    assert (link, pipe) == ("a/2.png", "a/3.png")
    assert "broken link" in why_link
    assert "no regular file" in why_pipe
    assert len(dataset) == 2


@pytest.mark.parametrize("kind", ["relative", "home"])
def test_the_root_becomes_absolute(make, index, tmp_path, monkeypatch, kind):
    make("a/1.png", "b/1.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = index("data" if kind == "relative" else "~/data")
    monkeypatch.chdir("/")
    assert Path(os.fsdecode(dataset.samples.path(0))).exists()


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "no class folders"),
        (["1.png", "2.png"], "no class folders"),
        (["train/1.png"], "train holds no class folders"),
        (["a/1.png"], "one class, 'a'; .*at least two"),
        (["train/a/1.png", "val/a/1.png", "val/b/1.png"], "one class, 'a'"),
        (["a/1.png", "b/1.png", "c/1.txt"], r"class 'c' in .*data without an image"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/c/1.png"], "class 'c' in .*/val, which train/ lacks"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/c/1.txt"], "class 'c' in .*/val, which train/ lacks"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.txt"], "class 'b' in .*/val without an image"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.txt", "test/b/1.txt"], "classes 'a', 'b' in .*/test without"),
        (["train/a/1.png", "train/b/1.png", "test/d/1.png", "test/c/1.png"], "classes 'c', 'd' in .*/test, which"),
        (["train/a/1.png", "train/b/1.png", "validation/a/1.png"], "validation/ next to train/.*rename it to val/"),
        (["val/a/1.png", "val/b/1.png", "test/b/1.png"], "holds test/ and val/ but no train/"),
    ],
)
def test_folders_that_cannot_be_trained_on_are_refused(make, index, paths, message):
    root = make(*(path for path in paths if path.endswith("png")))
    for path in paths:
        if not path.endswith("png"):
            place(root, path, b"text")
    with pytest.raises(DataError, match=message):
        index(root)


def test_a_root_that_is_no_folder_is_refused(index, tmp_path):
    (tmp_path / "file").write_text("x")
    for root, message in (
        ("", "data.root is empty"),
        (tmp_path / "none", "data.root=.*none does not exist"),
        (tmp_path / "file", "is no folder"),
    ):
        with pytest.raises(DataError, match=f"{message}; set it to"):
            index(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_without_permission_is_named(make, index):
    root = make("a/1.png", "b/1.png")
    (root / "a").chmod(0)
    with pytest.raises(DataError, match="a cannot be listed: Permission denied"):
        index(root)


def test_unreadable_files_stop_the_job_with_a_list(make, index, image_files):
    root = make("a/1.png", "b/1.png")
    for number, data in enumerate(image_files.damaged().values()):
        place(root, f"b/x{number}.jpg", data)
    for number in range(20):
        place(root, f"b/y{number:02d}.jpg", b"")
    with pytest.raises(DataError) as raised:
        index(root)
    head, *lines = str(raised.value).splitlines()
    assert head.startswith(f"29 of 31 images in {root} cannot be read")
    assert 'data.on_unreadable="skip"' in head
    assert len(lines) == 21
    assert lines[0] == "  'b/x0.jpg': empty file"
    assert lines[-1] == "  and 9 more"


def test_unreadable_files_can_be_left_out_and_are_listed(make, index, image_files):
    root = make("train/a/1.png", "train/b/1.png", "val/a/1.png")
    damaged = image_files.damaged()
    for number, data in enumerate(damaged.values()):
        place(root, f"train/a/x{number}.jpg", data)
    dataset = index(root, on_unreadable="skip")
    assert dataset.samples.sample_ids == ("train/a/1.png", "train/b/1.png", "val/a/1.png")
    assert [sample_id for sample_id, _ in dataset.unreadable] == [f"train/a/x{n}.jpg" for n in range(len(damaged))]
    assert all(reason for _, reason in dataset.unreadable)


@pytest.mark.parametrize("layout", ["", "train/"])
def test_a_class_that_is_left_empty_is_an_error(make, index, layout):
    root = make(f"{layout}a/1.png", f"{layout}a/2.png")
    place(root, f"{layout}b/1.png", b"text")
    if layout:
        make("val/b/1.png")
    with pytest.raises(DataError, match=r"class 'b' has no training image; repair.*\n  '.*b/1.png'"):
        index(root, on_unreadable="skip")


def test_what_the_probe_refuses_is_unreadable(make, index):
    root = make("a/1.png", "a/2.png", "b/1.png")
    bad = (root / "a/2.png").read_bytes()

    def probe(batch):
        return ["not for me" if data == bad else None for data in batch]

    assert index(root, probe, on_unreadable="skip").unreadable == (("a/2.png", "not for me"),)
    with pytest.raises(DataError, match="not for me"):
        index(root, probe)
    assert len(index(root)) == 3, "a scan without the probe has a memory of its own"


def test_slivers_are_unreadable_only_where_the_centre_is_cropped(make, index, image_files):
    root = make("a/1.png", "b/1.png")
    place(root, "a/2.png", image_files.encode(np.zeros((1, 5000, 3), dtype=np.uint8), "PNG"))
    assert len(index(root, resize="letterbox")) == 3
    settings = {"resize": "center_crop", "max_pixels": 10**6}
    with pytest.raises(DataError, match=r"5000x1 is too narrow.*letterbox"):
        index(root, **settings)
    assert len(index(root, on_unreadable="skip", **settings)) == 2


def test_the_fingerprint_is_of_classes_ids_labels_and_contents(make, index, tmp_path):
    root = make("a/1.png", "b/1.png", "b/2.png")
    first = index(root)
    assert index(root).fingerprint == first.fingerprint

    root.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert index(moved).fingerprint == first.fingerprint, "where the data lies is no part of it"

    seen = {first.fingerprint}
    changes = [
        lambda: (moved / "a/1.png").write_bytes((moved / "b/2.png").read_bytes()),
        lambda: (moved / "b/2.png").rename(moved / "b/3.png"),
        lambda: (moved / "b/3.png").rename(moved / "a/3.png"),
        lambda: (moved / "b").rename(moved / "c"),
        (moved / "a/3.png").unlink,
    ]
    for change in changes:
        change()
        seen.add(index(moved).fingerprint)
    assert len(seen) == 1 + len(changes)


def test_starting_again_decodes_nothing(make, index, tmp_path):
    root = make("a/1.png", "b/1.png")
    first = index(root)

    def never(_):
        raise AssertionError("read again")

    data = DataConfig(root=str(root), cache_dir=str(tmp_path / "cache"))
    again = index_folder(data, Readers(never, never))
    assert again.fingerprint == first.fingerprint
    assert again.samples.sizes.tolist() == first.samples.sizes.tolist()
