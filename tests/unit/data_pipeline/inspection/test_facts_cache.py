"""What an inspection remembers: facts of images, in parts, between starts, and what it does without."""

import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.config import DataConfig
from data_pipeline.inspection.facts import FACTS, facts_of
from data_pipeline.inspection.facts_cache import FactsCache
from data_pipeline.inspection.thumbnails import look_at
from data_pipeline.listing.image_folder import ListedImage
from data_pipeline.listing.scan import Readers, scan
from data_pipeline.listing.scan_cache import ReadableFile
from resnet_dist.runtime.image_file import decode_rgb, image_header, image_kind

KIND = partial(image_kind, max_pixels=10**6)
READERS = Readers(partial(decode_rgb, bit_depth=12, max_pixels=10**6), partial(image_header, max_pixels=10**6))


def listed(folder: Path) -> list[ListedImage]:
    found = []
    for path in sorted(folder.iterdir()):
        status = path.stat()
        found.append(ListedImage(os.fsencode(path.name), status.st_size, status.st_mtime_ns, None, "a"))
    return found


def inspect(folder: Path, cache: FactsCache, threads: int = 1, progress: Any = None) -> list[ReadableFile | str]:
    """One look at a folder's images."""
    images = listed(folder)
    names = [os.fsdecode(image.relative_path) for image in images]

    def see(row: int, data: bytes, pixels: Any) -> None:
        cache.see(names[row], data, pixels)

    readers = Readers(READERS.decode, READERS.header, see=see)
    return scan(os.fsencode(folder), images, readers, cache, threads, progress)


def plain(cache: FactsCache) -> dict[str, bytes]:
    return {sample_id: facts.tobytes() for sample_id, facts in cache.facts.items()}


@pytest.fixture
def remembered(tmp_path: Path) -> Path:
    return tmp_path / "remembered"


@pytest.fixture
def folder(tmp_path: Path, image_files: Any) -> Path:
    """Six images of several kinds, and one that cannot be read."""
    images = tmp_path / "images"
    images.mkdir()
    for n, (kind, mode) in enumerate([("PNG", None), ("JPEG", None), ("PNG", "P"), ("BMP", None), ("GIF", "L")]):
        photo = image_files.photo(20 + n, 30 - n, seed=n)
        (images / f"{n}.{kind.lower()}").write_bytes(image_files.encode(photo, kind, mode))
    (images / "5.png").write_bytes(image_files.turned(image_files.photo(9, 40), "PNG", 6))
    (images / "6.jpg").write_bytes(image_files.damaged()["half a JPEG"])
    return images


def test_facts_are_what_the_header_and_the_pixels_say(image_files: Any) -> None:
    data = image_files.turned(image_files.photo(50, 40), "JPEG", 6)
    pixels = READERS.decode(data)
    facts, look = facts_of(data, pixels, KIND), look_at(pixels)
    assert facts.dtype == FACTS
    assert facts.shape == (1,)
    (row,) = facts
    assert (row["bytes"], row["format"], row["mode"], row["bits"], row["orientation"]) == (
        len(data),
        b"JPEG",
        b"RGB",
        8,
        6,
    )
    assert tuple(row["sums"].tolist()) == look.sums
    assert row["sharpness"] == np.float32(look.sharpness)
    assert np.array_equal(row["thumbnail"], look.thumbnail)


def test_facts_hold_the_longest_names_and_the_largest_sums(image_files: Any) -> None:
    data = image_files.png(np.full((8, 8, 1), 60000, np.uint16), 16, 0)
    (row,) = facts_of(data, np.full((700, 9000, 3), 255, np.uint8), lambda _: ("12345678", "RGBa-I;16NRS", 16, 8))
    assert (row["format"], row["mode"], row["bits"], row["orientation"]) == (b"12345678", b"RGBa-I;16NRS", 16, 8)
    assert row["sums"].tolist() == [255 * 700 * 9000] * 3
    (row,) = facts_of(data, READERS.decode(data) // 2, KIND)
    assert (row["format"], row["mode"], row["bits"]) == (b"PNG", b"I;16", 16)


@pytest.mark.parametrize("threads", [1, 3])
def test_what_was_saved_is_loaded_equal_and_nothing_is_read_anew(folder: Path, remembered: Path, threads: int) -> None:
    first = FactsCache(remembered, KIND)
    results = inspect(folder, first, threads)
    assert first.seen == 6
    assert sorted(first.facts) == ["0.png", "1.jpeg", "2.png", "3.bmp", "4.gif", "5.png"]
    assert list(first.known.values()) == results[:6]

    second = FactsCache(remembered, KIND)
    assert inspect(folder, second, threads) == results
    assert second.seen == 0
    assert plain(second) == plain(first)
    assert second.load() == first.known
    assert {path.suffix for path in remembered.iterdir()} == {".npz"}, "nothing half-written is left"


def test_the_facts_are_those_of_the_files(folder: Path, remembered: Path) -> None:
    inspect(folder, FactsCache(remembered, KIND))
    inspect(folder, cache := FactsCache(remembered, KIND))
    for name, facts in cache.facts.items():
        data = (folder / name).read_bytes()
        assert facts.tobytes() == facts_of(data, READERS.decode(data), KIND).tobytes()


def test_the_table_has_a_row_for_each_image_that_is_named(folder: Path, remembered: Path) -> None:
    inspect(folder, FactsCache(remembered, KIND))
    inspect(folder, cache := FactsCache(remembered, KIND))
    table = cache.table(["4.gif", "0.png", "4.gif"])
    assert (table.dtype, table.shape) == (FACTS, (3,))
    assert [row.tobytes() for row in table] == [plain(cache)[name] for name in ("4.gif", "0.png", "4.gif")]
    with pytest.raises(KeyError):
        cache.table(["6.jpg"])


def test_a_changed_file_is_read_anew(folder: Path, remembered: Path, image_files: Any) -> None:
    inspect(folder, before := FactsCache(remembered, KIND))
    (folder / "0.png").write_bytes(image_files.encode(image_files.photo(20, 30, seed=77), "PNG"))
    os.utime(folder / "1.jpeg", ns=(0, 12345))
    inspect(folder, cache := FactsCache(remembered, KIND))
    assert cache.seen == 2
    changed = {name for name in before.facts if plain(cache)[name] != plain(before)[name]}
    assert changed == {"0.png"}
    inspect(folder, again := FactsCache(remembered, KIND))
    assert again.seen == 0
    assert plain(again) == plain(cache), "of two facts of an image the later ones count"
    assert len(list(remembered.iterdir())) == 2


def test_another_size_alone_or_another_time_alone_is_another_file(remembered: Path, image_files: Any) -> None:
    data = image_files.encode(image_files.photo(9, 9), "PNG")
    cache = FactsCache(remembered, KIND)
    file = ReadableFile("00", 9, 9, True)
    for name in (("a.png", 5, 7), ("a.png", 6, 7), ("a.png", 6, 8), ("a.png", 5, 7)):
        cache.see("a.png", data, READERS.decode(data))
        cache.save({name: file})
        assert FactsCache(remembered, KIND).load() == {name: file}


def test_a_repaired_image_is_seen_and_known(folder: Path, remembered: Path, image_files: Any) -> None:
    inspect(folder, FactsCache(remembered, KIND))
    (folder / "6.jpg").write_bytes(image_files.encode(image_files.photo(9, 9), "JPEG"))
    (folder / "0.png").unlink()
    results = inspect(folder, cache := FactsCache(remembered, KIND))
    assert cache.seen == 1
    known = {name: file for (name, _, _), file in cache.known.items()}
    assert [known[name] for name in ("1.jpeg", "2.png", "3.bmp", "4.gif", "5.png", "6.jpg")] == results


def test_an_interrupted_inspection_goes_on(tmp_path: Path, remembered: Path, image_files: Any) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(140):
        (folder / f"{n:03d}.png").write_bytes(image_files.encode(image_files.photo(5, 4, seed=n), "PNG"))

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt(f"{done} of {total}")

    with pytest.raises(KeyboardInterrupt):
        inspect(folder, first := FactsCache(remembered, KIND), progress=interrupt)
    kept = len(first.known)
    assert 0 < kept < 140
    results = inspect(folder, second := FactsCache(remembered, KIND))
    assert second.seen == 140 - kept
    inspect(folder, whole := FactsCache(None, KIND))
    assert plain(second) == plain(whole)
    assert list(second.known.values()) == results
    inspect(folder, third := FactsCache(remembered, KIND))
    assert third.seen == 0
    assert plain(third) == plain(whole)


def test_each_save_adds_a_part_of_what_is_new(remembered: Path, image_files: Any) -> None:
    data = image_files.encode(image_files.photo(9, 9), "PNG")
    cache, files = FactsCache(remembered, KIND), {}
    for n in range(12):
        cache.see(f"{n}.png", data, READERS.decode(data))
        files[f"{n}.png", 5, 7] = ReadableFile("00", 9, n, True)
        cache.save(files)
        cache.save(files)
    assert len(list(remembered.iterdir())) == 12
    rows = [json.loads(np.load(part)["rows"].tobytes()) for part in sorted(remembered.iterdir())]
    assert [[row[0] for row in part] for part in rows] == [[f"{n}.png"] for n in range(12)]
    assert FactsCache(remembered, KIND).load() == files


def test_an_image_whose_facts_are_not_known_is_not_remembered(remembered: Path) -> None:
    cache = FactsCache(remembered, KIND)
    cache.save({("a.png", 5, 7): ReadableFile("00", 9, 9, True)})
    assert not remembered.exists()


def damaged_npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def rows_of(count: int) -> np.ndarray:
    rows = [[f"{n}.png", 5, 7, "00", 9, 9, True] for n in range(count)]
    return np.frombuffer(json.dumps(rows).encode(), np.uint8)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"this is no archive",
    "zeros": lambda good: bytes(len(good)),
    "half": lambda good: good[: len(good) // 2],
    "last byte": lambda good: good[:-1],
    "first bytes": lambda good: good[:4],
    "changed facts": lambda good: good.replace(b"JPEG", b"XPEG"),
    "changed rows": lambda good: good.replace(b"1.jpeg", b"7.jpeg"),
    "no facts": lambda _: damaged_npz(rows=rows_of(2)),
    "no rows": lambda _: damaged_npz(facts=np.zeros(2, FACTS)),
    "rows that are no JSON": lambda _: damaged_npz(rows=np.zeros(9, np.uint8), facts=np.zeros(2, FACTS)),
    "rows of other things": lambda _: damaged_npz(
        rows=np.frombuffer(b'[["a", 5, "7", "00", 9, 9, true]]', np.uint8), facts=np.zeros(1, FACTS)
    ),
    "more rows": lambda _: damaged_npz(rows=rows_of(3), facts=np.zeros(2, FACTS)),
    "another dtype": lambda _: damaged_npz(rows=rows_of(2), facts=np.zeros(2, FACTS.descr[:-1])),
    "another shape": lambda _: damaged_npz(rows=rows_of(2), facts=np.zeros((2, 1), FACTS)),
    "numbers": lambda _: damaged_npz(rows=rows_of(2), facts=np.zeros(2)),
    "objects": lambda _: damaged_npz(rows=rows_of(2), facts=np.array([{}, None], dtype=object)),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_read_again(folder: Path, remembered: Path, damage: str) -> None:
    results = inspect(folder, first := FactsCache(remembered, KIND))
    (part,) = remembered.iterdir()
    good = part.read_bytes()
    part.write_bytes(bad := DAMAGES[damage](good))
    assert bad != good
    inspect(folder, second := FactsCache(remembered, KIND))
    assert second.seen == 6
    assert plain(second) == plain(first)
    assert inspect(folder, third := FactsCache(remembered, KIND)) == results
    assert third.seen == 0


def test_of_several_parts_only_the_damaged_one_is_read_again(folder: Path, remembered: Path, image_files: Any) -> None:
    inspect(folder, FactsCache(remembered, KIND))
    for n in range(3):
        (folder / f"more{n}.png").write_bytes(image_files.encode(image_files.photo(9, 8, seed=n), "PNG"))
    inspect(folder, FactsCache(remembered, KIND))
    first, second = sorted(remembered.iterdir())
    second.write_bytes(b"")
    inspect(folder, cache := FactsCache(remembered, KIND))
    assert cache.seen == 3
    first.unlink()
    inspect(folder, cache := FactsCache(remembered, KIND))
    assert cache.seen == 6


def test_other_files_in_the_folder_are_let_alone(folder: Path, remembered: Path) -> None:
    remembered.mkdir()
    others = {"stray.npz": b"x", "notes.txt": b"y", ".part-abc": b"z", "00000001.npz": b"", "zz-00000000.npz": b""}
    for name, content in others.items():
        (remembered / name).write_bytes(content)
    inspect(folder, FactsCache(remembered, KIND))
    inspect(folder, cache := FactsCache(remembered, KIND))
    assert cache.seen == 0
    inspect(folder, FactsCache(remembered, KIND, reread=True))
    assert {name: (remembered / name).read_bytes() for name in others} == others
    assert len(list(remembered.iterdir())) == len(others) + 1


def test_a_folder_that_cannot_be_written_is_done_without(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("a file where the folder would be")
    for place in (tmp_path / "in the way", tmp_path / "in the way" / "below"):
        for _ in range(2):
            inspect(folder, cache := FactsCache(place, KIND))
            assert (cache.seen, len(cache.facts)) == (6, 6)
            inspect(folder, reread := FactsCache(place, KIND, reread=True))
            assert reread.seen == 6
    assert (tmp_path / "in the way").read_text() == "a file where the folder would be"


def test_without_a_folder_one_object_remembers(folder: Path) -> None:
    cache = FactsCache(None, KIND)
    results = inspect(folder, cache)
    assert inspect(folder, cache) == results
    assert cache.seen == 6
    assert cache.load() == cache.known


def test_rereading_forgets_what_was_remembered_and_is_remembered_itself(folder: Path, remembered: Path) -> None:
    inspect(folder, FactsCache(remembered, KIND))
    (old,) = remembered.iterdir()
    cache = FactsCache(remembered, KIND, reread=True)
    inspect(folder, cache)
    assert cache.seen == 6
    assert not old.exists()
    inspect(folder, cache)
    assert cache.seen == 6, "it forgets once"
    inspect(folder, again := FactsCache(remembered, KIND))
    assert again.seen == 0
    assert len(list(remembered.iterdir())) == 1


def test_what_is_mostly_stale_is_written_again(folder: Path, remembered: Path) -> None:
    (folder / "6.jpg").unlink()
    for time in range(1, 4):
        for path in folder.iterdir():
            os.utime(path, ns=(0, time))
        inspect(folder, FactsCache(remembered, KIND))
        assert len(list(remembered.iterdir())) == time, "at most half is stale"
    inspect(folder, cache := FactsCache(remembered, KIND))
    assert cache.seen == 0
    (part,) = remembered.iterdir()
    assert {row[2] for row in json.loads(np.load(part)["rows"].tobytes())} == {3}, "the latest alone"
    for path in folder.iterdir():
        os.utime(path, ns=(0, 99))
    inspect(folder, FactsCache(remembered, KIND))
    inspect(folder, cache := FactsCache(remembered, KIND))
    assert (cache.seen, {mtime_ns for _, _, mtime_ns in cache.known or cache.load()}) == (0, {99})


def test_a_full_disk_costs_nothing_that_was_remembered(small_disk: Path, folder: Path, remembered: Path) -> None:
    (folder / "6.jpg").unlink()
    for time in range(1, 4):
        for path in folder.iterdir():
            os.utime(path, ns=(0, time))
        inspect(folder, FactsCache(remembered, KIND))
    with pytest.raises(OSError, match="No space"):
        (small_disk / "full").write_bytes(bytes(2**20))
    parts = sorted(remembered.iterdir())
    for _ in range(2):
        inspect(folder, cache := FactsCache(remembered, KIND))
        assert cache.seen == 0
    assert sorted(remembered.iterdir()) == parts


def test_names_are_any_text(remembered: Path, image_files: Any) -> None:
    data = image_files.encode(image_files.photo(9, 9), "PNG")
    cache = FactsCache(remembered, KIND)
    name = ("a \"'\\\\ \\xff\n\u2028é.png", 5, 2**63)
    cache.see(name[0], data, READERS.decode(data))
    cache.save({name: ReadableFile("00", 1, 2, False)})
    again = FactsCache(remembered, KIND)
    assert again.load() == {name: ReadableFile("00", 1, 2, False)}
    assert plain(again) == plain(cache)


def test_other_settings_do_not_share_what_is_remembered(tmp_path: Path, image_files: Any) -> None:
    data = image_files.encode(image_files.photo(9, 9), "PNG")
    name, file = ("a.png", 5, 7), ReadableFile("00", 9, 9, True)

    def cache(root: bytes = b"/data", probe_name: str = "", **changes: Any) -> FactsCache:
        return FactsCache.of(DataConfig(cache_dir=str(tmp_path), **changes), root, probe_name, KIND)

    first = cache()
    first.see("a.png", data, READERS.decode(data))
    first.save({name: file})
    others = [
        {"root": b"/other"},
        {"root": b"/\xff"},
        {"probe_name": "dali"},
        {"bit_depth": 12},
        {"max_pixels": 5},
    ]
    assert all(cache(**other).load() == {} for other in others)
    assert cache().load() == cache(image_size=64, val_fraction=0.5).load() == {name: file}
    assert FactsCache.of(DataConfig(cache_dir=str(tmp_path)), b"/data", "", KIND, reread=True).load() == {}
    assert cache().load() == {}
