"""A node's copy of a store is the store, whatever happened in between."""

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from cluster.errors import StorageError
from cluster.storage.download import Wanted
from cluster.storage.folder_name import folder_name
from cluster.storage.mirror import Mirror
from cluster.storage.store import Store, StoredFile
from tests.laws import examples

_SPAWN = multiprocessing.get_context("spawn")
NAMES = ["a", "b", "c.png", ".hidden", "ü 1%20#?.png"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("write"), paths, st.binary(min_size=1, max_size=3)),
        st.tuples(st.just("remove"), paths, st.just(b"")),
        st.tuples(st.just("mirror"), st.just(""), st.just(b"")),
        st.tuples(st.sampled_from(["spoil", "link", "stray"]), paths, st.binary(max_size=3)),
    ),
    max_size=14,
)


def store_at(folder: Path) -> Store:
    folder.mkdir(parents=True, exist_ok=True)
    return Store(fs.LocalFileSystem(), str(folder), f"test://bucket/{folder.name}")


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def aged(folder: Path, seconds: float = 100.0) -> None:
    """As if all files had been written some time ago."""
    for path in folder.rglob("*"):
        then = path.stat().st_mtime_ns - int(seconds * 1e9)
        os.utime(path, ns=(then, then))


def wanted_of(folder: Path) -> dict[str, Wanted]:
    return {
        name: Wanted(len(data), (folder / name).stat().st_mtime_ns, hashlib.blake2b(data, digest_size=16).hexdigest())
        for name, data in files_below(folder).items()
    }


def apply(step: tuple[str, str, bytes], source: Path, mirror: Mirror) -> None:
    kind, name, data = step
    base = source if kind in ("write", "remove") else mirror.folder
    path = base / name
    if kind == "mirror":
        if files_below(source):
            with mirror.whole():
                assert files_below(mirror.folder) == files_below(source)
        return
    if kind == "remove":
        shutil.rmtree(path, ignore_errors=True)
        if path.is_file():
            path.unlink()
        return
    for above in [*reversed(path.relative_to(base).parents)][1:]:
        if (base / above).is_symlink() or (base / above).is_file():
            (base / above).unlink()
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        path.symlink_to(source)
    else:
        # What was cut off by a crash of the machine has another length.
        path.write_bytes(data if kind == "write" else data + b"spoilt")


@given(changes)
@settings(max_examples=examples(0.6))
def test_after_any_changes_the_mirror_equals_the_store(steps: list[tuple[str, str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        mirror = Mirror(store_at(source), Path(folder) / "cache")
        for step in [*steps, ("write", "last", b"1"), ("mirror", "", b"")]:
            apply(step, source, mirror)
        assert {path for path in mirror.folder.rglob("*") if path.is_dir()} == {
            mirror.folder / path.relative_to(source).parent
            for path in source.rglob("*")
            if path.is_file() and path.parent != source
        } | {
            mirror.folder / above
            for path in source.rglob("*")
            if path.is_file()
            for above in path.relative_to(source).parents
            if above != Path()
        }


@given(changes)
@settings(max_examples=examples(0.4))
def test_another_node_comes_to_hold_the_same_files(steps: list[tuple[str, str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        store = store_at(source)
        first, other = Mirror(store, Path(folder) / "cache"), Mirror(store, Path(folder) / "other")
        for step in [*steps, ("write", "last", b"1")]:
            apply(step, source, other if step[0] in ("spoil", "link", "stray") else first)
        with first.whole():
            wanted = wanted_of(first.folder)
        with other.holding(wanted):
            found = {name: (other.folder / name).read_bytes() for name in wanted}
            assert found == files_below(source)
            assert all(not (other.folder / name).is_symlink() for name in wanted)


class Counting(Store):
    """Counts what is fetched, and does to each stream what a test wants."""

    fetched: list[str]
    faults: dict[str, Callable[[], object]]

    def reading(self, path: str) -> Any:
        self.fetched.append(path)
        self.faults.get(path, lambda: None)()
        return super().reading(path)


def counting(folder: Path) -> Counting:
    folder.mkdir(parents=True, exist_ok=True)
    store = Counting(fs.LocalFileSystem(), str(folder), f"test://bucket/{folder.name}")
    store.fetched, store.faults = [], {}
    return store


def test_only_what_has_changed_is_fetched_again(tmp_path: Path) -> None:
    store = counting(tmp_path / "source")
    for number in range(40):
        (tmp_path / "source" / f"{number}.png").write_bytes(bytes([number]))
    aged(tmp_path / "source")
    mirror, shown = Mirror(store, tmp_path / "cache"), list[tuple[int, int]]()
    with mirror.whole(lambda done, total: shown.append((done, total))) as files:
        assert len(files) == 40
    assert shown == [(done, 40) for done in range(1, 41)]
    assert sorted(store.fetched) == sorted(files)
    store.fetched.clear()
    (tmp_path / "source" / "7.png").write_bytes(b"!")
    aged(tmp_path / "source")
    for path in (tmp_path / "source").iterdir():
        if path.name != "7.png":
            os.utime(path, ns=(files[path.name].mtime_ns,) * 2)
    with mirror.whole():
        assert store.fetched == ["7.png"]
        wanted = wanted_of(mirror.folder)
    store.fetched.clear()
    with mirror.holding(wanted):
        assert store.fetched == []


def test_a_young_file_is_fetched_again_since_its_time_may_not_tell(tmp_path: Path) -> None:
    store = counting(tmp_path / "source")
    path = tmp_path / "source" / "a.png"
    path.write_bytes(b"one")
    mirror, written = Mirror(store, tmp_path / "cache"), path.stat().st_mtime_ns
    with mirror.whole():
        pass
    path.write_bytes(b"two")
    os.utime(path, ns=(written, written))  # as an object store that knows seconds would say
    with mirror.whole():
        assert files_below(mirror.folder) == {"a.png": b"two"}


def test_what_a_job_still_reads_is_not_changed(tmp_path: Path) -> None:
    store = counting(tmp_path / "source")
    path = tmp_path / "source" / "a.png"
    path.write_bytes(b"one")
    aged(tmp_path / "source")
    reading, later = (Mirror(store, tmp_path / "cache") for _ in range(2))
    with reading.whole():
        with later.whole():
            pass  # two read at once
        (tmp_path / "source" / "b.png").write_bytes(b"new")
        with later.whole():
            assert len(files_below(later.folder)) == 2  # more is no change
        path.write_bytes(b"two!")
        with pytest.raises(StorageError, match=r"another job on this node still reads.*cache_dir"), later.whole():
            pass
        assert (reading.folder / "a.png").read_bytes() == b"one"
    with later.whole():
        assert (later.folder / "a.png").read_bytes() == b"two!"


class CutOff(Counting):
    """A server whose answers end too early, so many times."""

    cuts: int

    @contextmanager
    def reading(self, path: str) -> Generator[Any]:
        with super().reading(path) as stream:
            self.cuts -= 1
            yield BytesIO(stream.read()[:3]) if self.cuts >= 0 else stream


def test_a_download_cut_off_is_tried_again_and_then_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.storage.download._PAUSE_S", 0.01)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.png").write_bytes(b"whole")
    aged(tmp_path / "source")
    store = CutOff(fs.LocalFileSystem(), str(tmp_path / "source"), "test://bucket/source?scheme=http")
    store.fetched, store.faults, store.cuts = [], {}, 100
    mirror = Mirror(store, tmp_path / "cache")
    with (
        pytest.raises(
            StorageError,
            match=r"source/a.png\?scheme=http could not be fetched: 3 bytes of 5 came; start again",
        ),
        mirror.whole(),
    ):
        pass
    assert files_below(mirror.folder) == {}
    assert len(store.fetched) == 4
    store.cuts = 2
    with mirror.whole():
        assert files_below(mirror.folder) == {"a.png": b"whole"}


def test_a_file_that_changes_while_it_is_fetched_is_fetched_as_it_is_then(tmp_path: Path) -> None:
    store, path = counting(tmp_path / "source"), tmp_path / "source" / "a.png"
    path.write_bytes(b"before")
    (tmp_path / "source" / "b.png").write_bytes(b"b")
    aged(tmp_path / "source")
    turns = iter(range(1))
    store.faults["a.png"] = lambda: path.write_bytes(b"after!") if next(turns, None) is not None else None
    with Mirror(store, tmp_path / "cache").whole() as files:
        pass
    mirror = Mirror(store, tmp_path / "cache")
    assert files_below(mirror.folder) == {"a.png": b"after!", "b.png": b"b"}
    assert files == store.files()
    store.faults["a.png"] = lambda: path.write_bytes(random.randbytes(6))
    path.write_bytes(b"longer than before")
    with pytest.raises(StorageError, match=r"changes while it is fetched, such as 'a.png'"), mirror.whole():
        pass


def test_another_content_than_the_driver_has_seen_is_refused(tmp_path: Path) -> None:
    store = counting(tmp_path / "source")
    path = tmp_path / "source" / "a.png"
    path.write_bytes(b"one")
    aged(tmp_path / "source")
    first, other = Mirror(store, tmp_path / "cache"), Mirror(store, tmp_path / "other")
    with first.whole():
        wanted = wanted_of(first.folder)
    path.write_bytes(b"two")
    with pytest.raises(StorageError, match=r"a\.png could not be fetched: it has changed since"), other.holding(wanted):
        pass
    path.unlink()
    with pytest.raises(StorageError, match="it is gone; start again"), other.holding(wanted):
        pass
    assert files_below(other.folder) == {}


class Names(Store):
    """A listing that no file system has, as object stores may."""

    names: tuple[str, ...]

    def files(self) -> dict[str, StoredFile]:
        return dict.fromkeys(self.names, StoredFile(1, 1))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("../b",), "no name for a file"),
        (("a/../../b",), "no name for a file"),
        (("/etc/passwd",), "no name for a file"),
        (("a//b",), "no name for a file"),
        (("a/./b",), "no name for a file"),
        (("a\0b",), "no name for a file"),
        (("x" * 256,), "no name for a file"),
        (("a", "a/b"), "rename one of them"),
    ],
)
def test_no_name_leads_outside(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    store = Names(fs.LocalFileSystem(), str(tmp_path), "test://bucket/x")
    store.names = names
    with pytest.raises(StorageError, match=message), Mirror(store, tmp_path / "cache").whole():
        pass
    wanted = dict.fromkeys(names, Wanted(1, 1, ""))
    with pytest.raises(StorageError, match=message), Mirror(store, tmp_path / "cache").holding(wanted):
        pass


def test_no_link_in_the_copy_leads_outside(tmp_path: Path) -> None:
    store, outside = counting(tmp_path / "source"), tmp_path / "outside"
    (tmp_path / "source" / "a").mkdir()
    (tmp_path / "source" / "a" / "b.png").write_bytes(b"1")
    outside.mkdir()
    mirror = Mirror(store, tmp_path / "cache")
    with mirror.whole():
        wanted = wanted_of(mirror.folder)
    for _ in range(2):
        shutil.rmtree(mirror.folder / "a")
        (mirror.folder / "a").symlink_to(outside)
        with mirror.holding(wanted) if _ else mirror.whole():
            assert not (mirror.folder / "a").is_symlink()
        assert list(outside.iterdir()) == []


def test_an_empty_place_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no files"), Mirror(store_at(tmp_path / "s"), tmp_path / "c").whole():
        pass
    gone = Store(fs.LocalFileSystem(), str(tmp_path / "gone"), "test://bucket/gone")
    with (
        pytest.raises(StorageError, match="gone could not be listed: there is no such"),
        Mirror(gone, tmp_path).whole(),
    ):
        pass


def test_a_full_disk_is_known_before_and_explained_in_the_middle(
    small_disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("big") / "parts"
    store = counting(source)
    (source / "a.png").write_bytes(bytes(700_000))
    (source / "b.png").write_bytes(bytes(700_000))
    aged(source)
    mirror = Mirror(store, small_disk)
    with pytest.raises(StorageError, match=r"2 files of 1\.4 MB.*1\.0 MB are free.*--data\.cache_dir"), mirror.whole():
        pass
    assert store.fetched == []
    (source / "b.png").unlink()
    store.faults["a.png"] = lambda: (small_disk / "other").write_bytes(bytes(600_000))
    with pytest.raises(StorageError, match=r"a\.png could not be written: no space is left"), mirror.whole():
        pass
    assert files_below(mirror.folder) == {}
    (small_disk / "other").unlink()
    store.faults.clear()
    with mirror.whole():
        assert list(files_below(mirror.folder)) == ["a.png"]


def mirror_once(source: str, cache: str, barrier: Any, count: Any) -> None:
    """In a process of its own."""

    class Counted(Store):
        def reading(self, path: str) -> Any:
            with count.get_lock():
                count.value += 1
            return super().reading(path)

    store = Counted(fs.LocalFileSystem(), source, f"test://bucket/{Path(source).name}")
    barrier.wait(60)
    with Mirror(store, Path(cache)).whole():
        barrier.wait(60)  # both read at the same time


def test_two_processes_at_once_fetch_each_file_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(200):
        (source / f"{number}").write_bytes(random.randbytes(2000))
    aged(source)
    barrier, count = _SPAWN.Barrier(2), _SPAWN.Value("i", 0)
    started = [
        _SPAWN.Process(target=mirror_once, args=(str(source), str(tmp_path / "cache"), barrier, count))
        for _ in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(100)
    assert [process.exitcode for process in started] == [0, 0]
    assert count.value == 200
    assert files_below(Mirror(store_at(source), tmp_path / "cache").folder) == files_below(source)


def mirror_for_ever(source: str, cache: str, started: Any) -> None:
    """In a process of its own: fetch all again and again."""
    mirror = Mirror(Store(fs.LocalFileSystem(), source, f"test://bucket/{Path(source).name}"), Path(cache))
    while True:
        started.set()
        with mirror.whole():
            pass
        shutil.rmtree(mirror.folder)


def test_killed_at_any_time_no_file_is_half_there_and_the_next_start_completes_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(60):
        (source / f"{number}").write_bytes(random.randbytes(50_000))
    aged(source)
    expected, mirror = files_below(source), Mirror(store_at(source), tmp_path / "cache")
    for _ in range(3):
        started = _SPAWN.Event()
        process = _SPAWN.Process(target=mirror_for_ever, args=(str(source), str(tmp_path / "cache"), started))
        process.start()
        assert started.wait(60)
        wait = random.uniform(0, 0.3)
        print(f"killed after {wait:.3f} s")
        process.join(wait)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        left = files_below(mirror.folder)
        assert left.items() <= expected.items()
        began = time.monotonic()
        with mirror.whole():  # the dead one's locks are gone
            assert files_below(mirror.folder) == expected
        assert time.monotonic() - began < 30
        assert list((mirror.folder.parent.parent / "parts").iterdir()) == []


def test_whoever_waits_goes_on_when_the_other_has_fetched(tmp_path: Path) -> None:
    store = counting(tmp_path / "source")
    (tmp_path / "source" / "a").write_bytes(b"1")
    aged(tmp_path / "source")
    begun, go = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go.wait(60)

    store.faults["a"] = hold
    done: list[str] = []

    def second() -> None:
        with Mirror(store, tmp_path / "cache").whole():
            done.append("second")

    with ExitStack() as threads:
        first = threading.Thread(target=lambda: threads.enter_context(Mirror(store, tmp_path / "cache").whole()))
        first.start()
        assert begun.wait(60)
        other = threading.Thread(target=second)
        other.start()
        other.join(0.5)
        assert not done
        go.set()
        other.join(60)
        first.join(60)
    assert done == ["second"]
    assert store.fetched == ["a"]


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://bucket/a/parts?endpoint_override=1.2.3.4:5&scheme=http", "parts"),
        ("s3://bucket", "bucket"),
        ("gs://bucket/große Teile/", "gro-e-Teile"),
        ("s3://bucket/...", "data"),
    ],
)
def test_the_copy_is_called_like_the_folder(uri: str, name: str) -> None:
    assert folder_name(uri) == name


def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    """Without permission to write, the message names the folder and the setting."""
    if os.geteuid() == 0:
        command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting is not permitted")
    else:
        tmp_path.chmod(0o500)
    try:
        source = Path(tempfile.mkdtemp())
        (source / "a").write_bytes(b"1")
        mirror = Mirror(store_at(source), tmp_path / "cache")
        with pytest.raises(StorageError, match=r"no permission.*\(--data\.cache_dir\)"), mirror.whole():
            pass
        shutil.rmtree(source)
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(tmp_path)], check=True)
