"""Whole files or none."""

import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.storage import Store


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


def test_errors_name_the_place_and_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none could not be read: there is no such file"):
        Store.open(str(tmp_path)).read("none")
    with pytest.raises(StorageError, match=r"nonsense://x.*give a folder or a URI"):
        Store.open("nonsense://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        Store.open(str(tmp_path)).write("file/below", b"")


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


def test_a_write_that_does_not_fit_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=write_beyond_limit, args=(str(tmp_path),))
    process.start()
    process.join(60)
    assert process.exitcode == 42
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"a" * 1000
