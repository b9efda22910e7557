"""Whole files or none."""

import multiprocessing
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from cluster.errors import StorageError
from cluster.storage.store import Store

_SPAWN = multiprocessing.get_context("spawn")
_BIG = 1 << 22

paths = st.lists(st.sampled_from(["a", "b", "c.json"]), min_size=1, max_size=3).map("/".join)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), paths, st.binary(max_size=20)), st.tuples(st.just("delete"), paths, st.just(b""))
    ),
    max_size=12,
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, text=True) if os.geteuid() == 0 else None
    if mounted is None or mounted.returncode:
        pytest.skip(f"mounting a small file system: {mounted.stderr.strip() if mounted else 'needs root'}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


class CountingHandler(fs.FSSpecHandler):
    """Files in memory behind pyarrow's interface; each call is what a request to an object store would be."""

    def __init__(self) -> None:
        super().__init__(MemoryFileSystem())
        self.calls: list[str] = []

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        self.calls.append("get_file_info")
        return super().get_file_info(paths)

    def open_input_file(self, path: str) -> Any:
        self.calls.append("open_input_file")
        return super().open_input_file(path)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_record_that_may_be_absent_is_one_request(tmp_path: Path) -> None:
    handler = CountingHandler()
    store = Store(fs.PyFileSystem(handler), "counted", "memory://counted")
    store.write("runs/a/status.json", b"{}")
    handler.calls.clear()
    assert store.read_or_none("runs/a/status.json") == b"{}"
    assert store.read_or_none("runs/b/status.json") is None
    assert handler.calls == ["open_input_file"] * 2
    local = Store.open(str(tmp_path))
    local.write("file", b"five!")
    assert local.read_or_none("file", 4) == b"five"
    assert local.read_or_none("file/below") is None  # no folder, so nothing in it
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="folder could not be read"):
        local.read_or_none("folder")


def test_files_and_folders(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path)).child("runs/a")
    assert store.list("") == []
    assert not store.exists("x/y")
    store.write("x/y", b"one")
    store.write("x/y", b"two")
    assert store.read("x/y") == b"two"
    assert store.list("x") == ["y"]
    store.delete("x")
    store.delete("x")
    assert store.list("") == []
    assert Store.open(store.uri).uri == store.uri == str(tmp_path / "runs/a")
    by_uri = Store.open((tmp_path / "runs/a").as_uri())
    by_uri.write("z", b"three")
    assert store.read("z") == b"three"


@given(operations)
def test_it_holds_what_was_written_and_not_deleted(steps: list[tuple[str, str, bytes]]) -> None:
    """On a file system of Arrow's that is not the local one, so as an object store would be used."""
    filesystem = fs._MockFileSystem()
    filesystem.create_dir("root/run")
    store, expected = Store(filesystem, "root", "mock://root").child("run"), dict[str, bytes]()
    for kind, path, data in steps:
        if kind == "delete":
            store.delete(path)
            expected = {name: held for name, held in expected.items() if not f"{name}/".startswith(f"{path}/")}
        elif not any(name.startswith(f"{path}/") or path.startswith(f"{name}/") for name in expected):
            filesystem.create_dir(f"root/run/{path}".rpartition("/")[0])
            if store.exists(path):
                store.delete(path)  # an empty folder that a deleted file has left
            store.write(path, data)
            expected[path] = data
    for path, data in expected.items():
        assert store.read(path) == data
        folder, _, name = path.rpartition("/")
        assert name in store.list(folder)
    assert store.list("never/there") == []


def test_errors_name_the_place_and_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none could not be read: there is no such file; check"):
        Store.open(str(tmp_path)).read("none")
    with pytest.raises(StorageError, match=r"nonsense://x.*give a folder or a URI"):
        Store.open("nonsense://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        Store.open(str(tmp_path)).write("file/below", b"")


def test_a_full_disk_is_explained_and_leaves_the_old_file_and_no_rubbish(small_disk: Path) -> None:
    store = Store.open(str(small_disk))
    store.write("file", b"a" * 600_000)
    with pytest.raises(
        StorageError, match=r"file could not be written: no space.*\(0\.\d MB free\).*intact: free space"
    ):
        store.write("file", b"b" * 600_000)
    assert names_in(small_disk) == ["file"]
    assert store.read("file") == b"a" * 600_000


def write_beyond_limit(root: str) -> None:
    """In a process whose files may have 1000 bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = Store.open(root)
    store.write("file", b"a" * 1000)
    try:
        store.write("file", b"b" * 1001)
    except StorageError as error:
        os._exit(42 if "no space" in str(error) and "intact" in str(error) else 1)


def test_a_write_beyond_a_limit_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    process = _SPAWN.Process(target=write_beyond_limit, args=(str(tmp_path),))
    process.start()
    process.join(60)
    assert process.exitcode == 42
    assert names_in(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"a" * 1000


def write_for_ever(root: str, started: Any) -> None:
    """In a process of its own: replace a big file by others of one letter each."""
    store = Store.open(root)
    while True:
        for letter in (b"a", b"b"):
            store.write("file", letter * _BIG)
            started.set()


def test_a_killed_writer_leaves_a_whole_file_and_nothing_else_to_be_seen(tmp_path: Path) -> None:
    started, store = _SPAWN.Event(), Store.open(str(tmp_path))
    process = _SPAWN.Process(target=write_for_ever, args=(str(tmp_path), started))
    process.start()
    assert started.wait(60)
    while names_in(tmp_path) == ["file"]:  # killed in the middle of a write
        pass
    process.kill()
    process.join()
    data = store.read("file")
    assert (len(data), len(set(data))) == (_BIG, 1)
    assert store.list("") == ["file"]


def test_a_child_keeps_the_options_of_a_uri() -> None:
    root = Store.open("s3://bucket/teams/a?endpoint_override=127.0.0.1:9&scheme=http&region=eu-west-1")
    child = root.child("runs/demo")
    assert child.uri == "s3://bucket/teams/a/runs/demo?endpoint_override=127.0.0.1:9&scheme=http&region=eu-west-1"
    assert child.local_path is None
    assert Store.open(child.uri).uri == child.uri


def test_a_secret_in_a_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(StorageError, match="by the environment") as refused:
        Store.open("s3://someone:hunter2@bucket/x")
    assert "hunter2" not in str(refused.value)


def test_what_a_killed_writer_leaves_goes_after_an_hour(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    store.write("checkpoints/file", b"x")
    left = tmp_path / "checkpoints" / ".part-file-0123abcd"
    left.write_bytes(b"")
    store.remove_abandoned()
    assert left.exists()  # a living writer may be at it
    os.utime(left, (time.time() - 3700, time.time() - 3700))
    store.remove_abandoned()
    assert names_in(tmp_path / "checkpoints") == ["file"]
