"""A file that somebody named is read at once and within bounds, or it is an error."""

import errno
import os
import socket
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resnet_dist.runtime.predictor import Predictor
from resnet_dist.runtime.regular_file import TooLargeError, read_regular

pytestmark = pytest.mark.timeout(20)  # what would wait, waits for ever


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    return path


@pytest.fixture
def socket_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)  # its name may have a hundred bytes
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket.png")
        yield tmp_path / "socket.png"


@pytest.fixture(params=["pipe", "socket_file", "/dev/zero", "/dev/urandom", "link to /dev/zero"])
def endless(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What waits for ever or never ends."""
    name: str = request.param
    if name.startswith("link"):
        (tmp_path / "link.png").symlink_to("/dev/zero")
        return tmp_path / "link.png"
    return Path(name) if name.startswith("/") else request.getfixturevalue(name)


def test_what_is_no_regular_file_is_refused_without_being_opened(endless: Path):
    with pytest.raises(OSError, match="no regular file"):
        read_regular(endless, 100)


@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_a_file_up_to_the_bound_is_read_whole(size: int, tmp_path: Path):
    (tmp_path / "file").write_bytes(os.urandom(size))
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 100) == (tmp_path / "file").read_bytes()


def test_a_larger_file_is_refused_before_it_is_in_memory(tmp_path: Path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="more than 100 bytes"):
        read_regular(tmp_path / "sparse", 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_file_that_hides_its_size_is_refused():
    path = Path("/proc/self/maps")
    if not path.exists():
        pytest.skip("there is no /proc")
    with pytest.raises(TooLargeError, match="more bytes than it says"):
        read_regular(path, 2**20)


def test_a_folder_and_an_absent_file_are_named_as_such(tmp_path: Path):
    for path, code in ((tmp_path, errno.EISDIR), (tmp_path / "absent", errno.ENOENT)):
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            read_regular(path, 100)
        assert caught.value.errno == code


def test_a_predictor_answers_the_others(
    bundle_folder: Path, pipe: Path, socket_file: Path, tmp_path: Path, image_files: Any
):
    photo = tmp_path / "photo.png"
    photo.write_bytes(image_files.encode(image_files.photo(48, 40), "PNG"))
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    places = [photo, pipe, photo, socket_file, Path("/dev/zero"), tmp_path / "sparse.png", photo]
    answers = Predictor.from_bundle(bundle_folder, threads=1).predict(places)
    assert [answer.error for answer in answers] == [
        None,
        "cannot be read: no regular file",
        None,
        "cannot be read: no regular file",
        "cannot be read: no regular file",
        "cannot be read: more than 536870912 bytes",
        None,
    ]
