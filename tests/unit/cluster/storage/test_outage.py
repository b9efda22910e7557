"""Storage that is away for a while, with real folders, file systems and servers."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.errors import RunHeldError, StorageBusyError, StorageError, StorageOutageError
from cluster.storage.failure import explained
from cluster.storage.outage import Patience
from cluster.storage.outage_watch import storage_watched
from cluster.storage.store import Store
from tests.outages import BusyServer, busy_server, file_system, moved_away, read_only

AWS = "When reading information for key 'timeouts/SLOW_DOWN' in bucket 'b': AWS Error {} during HeadObject operation: x"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.EROFS, "x"), StorageOutageError),
        (OSError(errno.EIO, "x"), StorageOutageError),
        (OSError(errno.ESTALE, "x"), StorageOutageError),
        (OSError(errno.ENOTCONN, "x"), StorageOutageError),
        (OSError(errno.ETIMEDOUT, "x"), StorageOutageError),
        (OSError(errno.ENOSPC, "x"), StorageError),
        (OSError(errno.EACCES, "x"), StorageError),
        (OSError(errno.ENOENT, "AWS Error SLOW_DOWN"), StorageError),
        (OSError(AWS.format("UNKNOWN (HTTP status 503)")), StorageBusyError),
        (OSError(AWS.format("UNKNOWN (HTTP status 429)")), StorageBusyError),
        (OSError(AWS.format("SLOW_DOWN")), StorageBusyError),
        (OSError(AWS.format("INTERNAL_FAILURE")), StorageBusyError),
        (OSError(AWS.format("NETWORK_CONNECTION")), StorageOutageError),
        (OSError(AWS.format("ACCESS_DENIED")), StorageError),
        (OSError(AWS.format("NO_SUCH_BUCKET")), StorageError),
        (OSError(AWS.format("UNKNOWN (HTTP status 400)")), StorageError),
    ],
    ids=str,
)
def test_an_error_says_whether_storage_is_away(error: OSError, kind: type[StorageError]) -> None:
    assert type(explained(error, "it could not be read", None, "--storage.root", None)) is kind


CALLS: list[Callable[[Store], object]] = [
    lambda store: store.write("file", b"new"),
    lambda store: store.write("runs/new/file", b"new"),
    lambda store: store.read("file"),
    lambda store: store.read_or_none("file"),
    lambda store: store.exists("file"),
    lambda store: store.file("file"),
    lambda store: store.list(""),
    lambda store: store.files(),
    lambda store: store.delete("file"),
    lambda store: store.look(),
    lambda store: store.child("runs").read_or_none("file"),
]


def test_a_folder_that_was_there_is_away_and_neither_empty_nor_made_anew(tmp_path: Path) -> None:
    root = tmp_path / "mount" / "runs"
    store = Store.open(str(root))
    store.write("file", b"old")
    settled = store.settled()
    with moved_away(tmp_path / "mount"):
        assert not store.exists("file")
        for call in CALLS:
            with pytest.raises(StorageOutageError, match=f"the folder {root} is not there; mount it"):
                call(settled)
    (tmp_path / "mount" / "empty").mkdir()
    with moved_away(root):  # the mount point is there, and nothing in it
        for call in CALLS:
            with pytest.raises(StorageOutageError, match="is not there"):
                call(settled)
    assert settled.read("file") == b"old"
    settled.write("a/b/new", b"new")
    assert settled.child("a").read("b/new") == b"new"
    settled.delete("a")
    settled.delete("a")
    assert settled.list("") == ["file"]


def test_a_read_only_file_system_is_away_for_writers(tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "1m") as disk:
        store = Store.open(str(disk))
        store.write("file", b"old")
        with read_only(disk):
            for call in (CALLS[0], CALLS[1], store.delete, Store.look):
                with pytest.raises(StorageOutageError, match="the file system is read-only; mount it for writing"):
                    call("file") if call == store.delete else call(store)
            assert store.read("file") == b"old"
        store.look()
        assert store.list("") == ["file"]


def test_a_patient_store_waits_asks_who_holds_it_and_says_so(tmp_path: Path) -> None:
    root, said, confirmed = tmp_path / "root", list[str](), list[float]()
    Store.open(str(root)).write("file", b"old")
    patience = Patience(60.0, said.append, lambda: confirmed.append(time.monotonic()))
    store = Store.open(str(root)).settled().patient(patience)
    read = list[object]()
    thread = threading.Thread(target=lambda: read.append(store.child("x").read_or_none("none") or store.read("file")))
    with moved_away(root):
        thread.start()
        while not said:
            time.sleep(0.01)
        assert "storage is away" in said[0]
        assert "is not there" in said[0]
        assert "at most 60 s" in said[0]
        assert not read
    thread.join(20)
    assert read == [b"old"]
    assert len(said) == 2
    assert said[1].startswith("storage is there again after")
    assert confirmed


def test_what_is_no_outage_is_raised_at_once(small_disk: Path) -> None:
    store = Store.open(str(small_disk)).settled().patient(Patience(60.0, print))
    began = time.monotonic()
    with pytest.raises(StorageError, match="no space is left"):
        store.write("file", b"a" * 2_000_000)
    with pytest.raises(StorageError, match="no such file"):
        store.read("none")
    assert time.monotonic() - began < 5.0


def test_an_outage_that_lasts_ends_with_the_setting_and_a_remedy(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "none")).settled()
    with pytest.raises(
        StorageOutageError, match=r"is not there[\s\S]*longer than storage\.outage_s=0\.2[\s\S]*same command"
    ):
        store.patient(Patience(0.2, print)).read("file")
    given_up = threading.Event()
    given_up.set()
    with pytest.raises(StorageOutageError):
        Patience(60.0, print).wait_out(lambda: store.read("file"), given_up)


def test_who_was_replaced_meanwhile_does_not_try_again(tmp_path: Path) -> None:
    root, tries = tmp_path / "root", list[int]()
    root.mkdir()
    store = Store.open(str(root)).settled()

    def write() -> None:
        tries.append(1)
        store.write("file", b"mine")

    def lost() -> None:
        raise RunHeldError("another token")

    with moved_away(root), pytest.raises(RunHeldError):
        Patience(60.0, print, lost).wait_out(write)
    assert len(tries) == 1


@pytest.mark.parametrize("busy", [0, 1, 3])
def test_a_server_that_is_busy_is_asked_again(busy: int) -> None:
    with busy_server() as server:
        server.busy = busy
        store = Store(server.filesystem, "bucket/prefix", "s3://bucket/prefix")
        if busy:
            with pytest.raises(StorageBusyError, match="503"):
                store.exists("file")
        assert store.patient(Patience.at_start(900.0, print)).exists("file")
        assert server.requests == busy + 1


def test_at_the_start_what_does_not_answer_is_refused_at_once(tmp_path: Path) -> None:
    with busy_server() as server:
        address = server.address
    store = Store(BusyServer(address).filesystem, "bucket", "s3://bucket").patient(Patience.at_start(900.0, print))
    began = time.monotonic()
    with pytest.raises(StorageOutageError, match="check the address"):
        store.exists("file")
    with file_system(tmp_path / "disk", "1m") as disk, read_only(disk):
        at_start = Store.open(str(disk)).patient(Patience.at_start(900.0, print))
        with pytest.raises(StorageOutageError, match=r"choose another --storage\.root"):
            at_start.write("file", b"x")
    assert time.monotonic() - began < 10.0


def test_a_watch_says_when_storage_is_away_and_there_again(tmp_path: Path) -> None:
    root, said = tmp_path / "root", list[str]()
    root.mkdir()

    def until(lines: int) -> None:
        deadline = time.monotonic() + 20
        while len(said) < lines:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    with storage_watched(Store.open(str(root)).settled(), said.append, 0.005):
        with moved_away(root):
            until(1)
        until(2)
    assert [line.partition(":")[0].partition(" after")[0] for line in said] == [
        "storage is away",
        "storage is there again",
    ]
    assert os.listdir(root) == []  # noqa: PTH208 - hidden files, too
