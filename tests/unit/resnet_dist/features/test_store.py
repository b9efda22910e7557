"""Tensors shared through files: what is read is what was put, by many at once, on disks that fill up."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnet_dist.errors import RunError
from resnet_dist.features.entry import pack, unpack
from resnet_dist.features.owner import current_owner, has_ended
from resnet_dist.features.store import Claim, FeatureStore, NoRoomError, Scope

MIB = 2**20


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def put(scope: Scope, name: str, tensor: torch.Tensor) -> int:
    return scope.put(name, tensor, tensor.dtype)


def files_bytes(folder: Path) -> int:
    return sum(
        path.stat().st_size
        for part in ("scopes", "writing")
        for path in (folder / part).rglob("*")
        if path.is_file() and not path.is_symlink()
    )


@given(
    shape=st.lists(st.integers(0, 4), max_size=5),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    order=st.randoms(use_true_random=False),
)
def test_an_entry_is_the_tensor_with_its_type_and_strides(shape: list[int], dtype: torch.dtype, order) -> None:
    dimensions = list(range(len(shape)))
    order.shuffle(dimensions)
    tensor = torch.randn(shape).to(dtype).permute(dimensions)
    header, body = pack(tensor, dtype)
    found = unpack(memoryview(bytearray(header + bytes(body))))
    assert torch.equal(found, tensor)
    assert (found.dtype, found.shape, found.stride()) == (tensor.dtype, tensor.shape, tensor.stride())


def test_rounded_numbers_come_back_in_their_own_type_and_what_is_not_dense_contiguous() -> None:
    images = numbers(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last)
    header, body = pack(images, torch.bfloat16)
    found = unpack(memoryview(bytearray(header + bytes(body))))
    assert len(body) == 2 * images.numel()
    assert torch.equal(found, images.bfloat16().float())
    assert found.is_contiguous(memory_format=torch.channels_last)
    for odd in (images[:, ::2], numbers(3).expand(3, 3)):
        header, body = pack(odd, torch.float32)
        found = unpack(memoryview(bytearray(header + bytes(body))))
        assert torch.equal(found, odd)
        assert found.is_contiguous()
    with pytest.raises(ValueError, match="int64"):
        pack(torch.arange(3), torch.float32)


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_changed_bit_is_seen(place: int, bit: int) -> None:
    header, body = pack(numbers(20), torch.float32)
    whole = bytearray(header + bytes(body))
    place %= len(whole)
    # Padding after the magic's checksum is the only thing that says nothing.
    if 12 <= place < 16:
        return
    whole[place] ^= 1 << bit
    with pytest.raises(ValueError, match="damaged"):
        unpack(memoryview(whole))


@pytest.mark.parametrize("damage", ["truncated", "longer", "garbage", "empty", "folder"])
def test_what_is_no_whole_entry_is_absent_and_is_replaced(tmp_path: Path, damage: str) -> None:
    store = FeatureStore(tmp_path / "store", MIB)
    with store.scope("ab") as scope:
        size = put(scope, "one", numbers(100))
        path = tmp_path / "store" / "scopes" / "ab" / "one"
        whole = path.read_bytes()
        match damage:
            case "truncated":
                path.write_bytes(whole[:-1])
            case "longer":
                path.write_bytes(whole + b"\0")
            case "garbage":
                path.write_bytes(os.urandom(len(whole)))
            case "empty":
                path.write_bytes(b"")
            case _:
                path.unlink()
                path.symlink_to(tmp_path)
        assert scope.get("one") is None
        assert put(scope, "one", numbers(100)) == size
        assert torch.equal(scope.get("one"), numbers(100))


def test_entries_are_told_apart_by_scope_and_name_and_survive_a_new_store(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, MIB)
    with store.scope("aa") as first, store.scope("bb") as second:
        put(first, "x", numbers(5, 1))
        put(first, "y", numbers(5, 2))
        put(second, "x", numbers(5, 3))
    with FeatureStore(tmp_path, MIB).scope("aa") as first, store.scope("bb") as second:
        assert torch.equal(first.get("x"), numbers(5, 1))
        assert torch.equal(first.get("y"), numbers(5, 2))
        assert torch.equal(second.get("x"), numbers(5, 3))
        assert second.get("y") is None
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_the_limit_holds_and_what_is_in_use_stays(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 3000)
    with store.scope("aa") as scope:
        put(scope, "0", numbers(250))
        put(scope, "1", numbers(250))
        with pytest.raises(NoRoomError, match=r"2,512 of 3,000 bytes are in use, and 1,256 more do not fit"):
            put(scope, "2", numbers(250))
        assert torch.equal(scope.get("0"), numbers(250))
        assert scope.get("2") is None
    assert store.stored_bytes == files_bytes(tmp_path) == 2512


def test_scopes_that_nobody_uses_make_room_the_oldest_first(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 4000)
    for time, digest in enumerate(("aa", "bb", "cc")):
        with store.scope(digest) as scope:
            put(scope, "x", numbers(250))
        os.utime(tmp_path / "scopes" / digest / "in-use", ns=(time, time))
    with store.scope("aa") as used, store.scope("dd") as new:
        put(new, "x", numbers(250))
        assert used.get("x") is not None
        assert not (tmp_path / "scopes" / "bb").exists()
        assert (tmp_path / "scopes" / "cc").exists()
        with pytest.raises(NoRoomError):
            put(new, "larger than all", numbers(2000))
        assert (tmp_path / "scopes" / "cc").exists()
    assert store.stored_bytes == files_bytes(tmp_path)


def test_a_scope_in_use_by_another_process_stays_until_that_one_is_killed(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 2000)
    with store.scope("aa") as scope:
        put(scope, "x", numbers(250))
    other = speaking(
        f"store = FeatureStore(Path({str(tmp_path)!r}), 2000); scope = store.scope('aa'); print('used', flush=True)\n"
        "sys.stdin.read()"
    )
    with other, store.scope("bb") as scope:
        assert other.stdout is not None
        assert other.stdout.readline() == "used\n"
        with pytest.raises(NoRoomError):
            put(scope, "x", numbers(250))
        other.kill()
        other.wait()
        put(scope, "x", numbers(250))
    assert not (tmp_path / "scopes" / "aa").exists()


START = """
import os, sys
from pathlib import Path
import torch
from resnet_dist.features.store import FeatureStore
torch.set_num_threads(1)
"""


def speaking(script: str) -> "subprocess.Popen[str]":
    """A real process that runs a script after `START`."""
    return subprocess.Popen(
        [sys.executable, "-c", START + script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


FILL = """
store = FeatureStore(Path({folder!r}), 2**26)
computed = 0
with store.scope("aa") as scope:
    for entry in range(60):
        wanted = torch.full((3000,), float(entry))
        found = scope.get_or_claim(str(entry), 30.0)
        if not isinstance(found, torch.Tensor):
            with found:
                computed += 1
                found.put(wanted, torch.float32)
                found = scope.get(str(entry))
        assert torch.equal(found, wanted), entry
print(computed)
"""


def test_several_processes_fill_a_store_and_each_entry_is_computed_once(tmp_path: Path) -> None:
    processes = [speaking(FILL.format(folder=str(tmp_path))) for _ in range(4)]
    said = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sum(map(int, said)) == 60
    store = FeatureStore(tmp_path, 2**26)
    assert store.stored_bytes == files_bytes(tmp_path) == 60 * (12000 + 256)
    assert not list((tmp_path / "scopes" / "aa").glob("*.claim"))


def test_threads_put_and_read_one_entry_whole(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, 10 * MIB)
    seen: list[bool] = []
    with store.scope("aa") as scope:

        def work(value: float) -> None:
            for _ in range(20):
                put(scope, "x", torch.full((5000,), value))
                found = scope.get("x")
                seen.append(found is not None and bool((found == found[0]).all()))

        threads = [threading.Thread(target=work, args=(float(n),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [True] * 80
    assert store.stored_bytes == files_bytes(tmp_path) == 20256


def test_a_claim_is_one_owners_until_it_is_given_back(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, MIB)
    with store.scope("aa") as scope:
        first = scope.claim("x")
        assert isinstance(first, Claim)
        assert scope.claim("x") is None
        assert scope.get_or_claim("x", 0.0) is None  # its owner lives and is not done
        with first:
            pass
        again = scope.get_or_claim("x", 0.0)
        assert isinstance(again, Claim)
        with again:
            again.put(numbers(3), torch.float32)
        assert torch.equal(scope.get_or_claim("x", 0.0), numbers(3))
        assert not list((tmp_path / "scopes" / "aa").glob("*.claim"))


def test_what_another_one_is_computing_is_waited_for(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, MIB)
    with store.scope("aa") as scope:
        claim = scope.claim("x")
        found: list[object] = []
        waiting = threading.Thread(target=lambda: found.append(scope.get_or_claim("x", 200.0)))
        waiting.start()
        assert claim is not None
        with claim:
            claim.put(numbers(3), torch.float32)
        waiting.join()
        assert isinstance(found[0], torch.Tensor)
        assert torch.equal(found[0], numbers(3))


def test_the_claim_and_the_half_written_file_of_a_killed_owner_are_taken_over(tmp_path: Path) -> None:
    script = (
        f"store = FeatureStore(Path({str(tmp_path)!r}), 2**20); scope = store.scope('aa'); claim = scope.claim('x')\n"
        # Held where its file has its size and none of its bytes.
        "def hold(*_):\n"
        "    print('writing', flush=True); sys.stdin.read()\n"
        "os.fdopen = hold\n"
        "claim.put(torch.zeros(1000), torch.float32)\n"
    )
    owner = speaking(script)
    with owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "writing\n"
        store = FeatureStore(tmp_path, 2**20)
        with store.scope("aa") as scope:
            assert scope.get_or_claim("x", 0.0) is None
            assert len(list((tmp_path / "writing").iterdir())) == 1
            assert store.stored_bytes == 4256
            owner.send_signal(signal.SIGKILL)
            owner.wait()
            claim = scope.get_or_claim("x", 0.0)
            assert isinstance(claim, Claim)
            with claim:
                claim.put(numbers(3), torch.float32)
            assert torch.equal(scope.get("x"), numbers(3))
    assert FeatureStore(tmp_path, 2**20).stored_bytes == files_bytes(tmp_path) == 256 + 12
    assert not list((tmp_path / "writing").iterdir())


def test_an_owner_has_ended_when_it_is_dead_a_zombie_or_no_process_at_all() -> None:
    assert not has_ended(current_owner())
    child = subprocess.Popen(
        [sys.executable, "-c", "from resnet_dist.features.owner import current_owner; print(current_owner(), end='')"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    named = child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert has_ended(named)  # not waited for yet: its pid is still taken
    child.wait()
    pid, started, namespace, boot = current_owner().split(".")
    assert has_ended(f"{pid}.{int(started) + 1}.{namespace}.{boot}")
    assert has_ended(f"{pid}.{started}.{namespace}.another-boot")
    assert not has_ended(f"{pid}.{started}.another-namespace.{boot}")
    assert has_ended("")
    assert has_ended("no owner")


def test_a_full_disk_keeps_what_was_stored_and_leaves_nothing_half(small_disk: Path) -> None:
    store = FeatureStore(small_disk / "store", 100 * MIB)
    with store.scope("aa") as scope:
        put(scope, "x", numbers(1000))
        with pytest.raises(OSError, match="No space left"):
            put(scope, "y", numbers(300_000))
        assert scope.get("y") is None
        assert torch.equal(scope.get("x"), numbers(1000))
        put(scope, "z", numbers(1000))
    assert store.stored_bytes == files_bytes(small_disk / "store") == 2 * 4256


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user needs root")
@pytest.mark.parametrize("link", [False, True])
def test_another_users_folder_is_refused(tmp_path: Path, link: bool) -> None:
    folder = tmp_path / "theirs"
    if link:
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir()
    os.chown(folder, 12345, 12345, follow_symlinks=False)
    with pytest.raises(RunError, match="belongs to user 12345 and this is user 0"):
        FeatureStore(folder, MIB)
