import hashlib
import json
import os
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.config import DataConfig
from data_pipeline.listing import scan as scan_module
from data_pipeline.listing.image_folder import ListedImage
from data_pipeline.listing.scan import Readers, scan
from data_pipeline.listing.scan_cache import ReadableFile, ScanCache
from resnet_dist.runtime.image_file import decode_rgb, image_header

HEADER = partial(image_header, max_pixels=10**6)


class CountingDecode:
    """The runtime's decoding, counted."""

    def __init__(self):
        self.calls = 0
        self.threads = set()
        self.lock = threading.Lock()

    def __call__(self, data):
        with self.lock:
            self.calls += 1
            self.threads.add(threading.get_ident())
        return decode_rgb(data, bit_depth=None, max_pixels=10**6)


def write(folder, files):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return listed(folder, *files)


def listed(folder, *names):
    images = []
    for name in names:
        status = (folder / name).stat()
        images.append(ListedImage(os.fsencode(name), status.st_size, status.st_mtime_ns, None, "a"))
    return images


def scanned(folder, images, decode=None, probe=None, **options):
    return scan(os.fsencode(folder), images, Readers(decode or CountingDecode(), HEADER, probe), **options)


def photos(image_files, count):
    return {f"{n:03d}.png": image_files.encode(image_files.photo(9, 7, seed=n), "PNG") for n in range(count)}


def test_says_of_each_file_what_it_holds(image_files, tmp_path):
    files = {
        "a.jpg": image_files.turned(image_files.photo(20, 10), "JPEG", 6),
        "b.png": image_files.encode(image_files.photo(8, 9), "PNG", mode="P"),
    }
    images = write(tmp_path, files)
    hashes = [hashlib.blake2b(data, digest_size=16).hexdigest() for data in files.values()]
    assert scanned(tmp_path, images) == [ReadableFile(hashes[0], 10, 20, True), ReadableFile(hashes[1], 8, 9, False)]


def test_gives_a_reason_for_each_unreadable_file(image_files, tmp_path):
    damaged = image_files.damaged()
    images = write(tmp_path, {f"{n}.jpg": data for n, data in enumerate(damaged.values())})
    for result, name in zip(scanned(tmp_path, images, threads=2), damaged, strict=True):
        assert isinstance(result, str), name
        assert result


def test_a_file_that_is_gone_or_too_large_is_unreadable(image_files, tmp_path, monkeypatch):
    large = image_files.encode(image_files.photo(90, 70), "PNG")
    images = write(tmp_path, photos(image_files, 2) | {"large.png": large, "grown.png": b""})
    (tmp_path / "000.png").unlink()
    (tmp_path / "grown.png").write_bytes(large)
    monkeypatch.setattr(scan_module, "MAX_FILE_BYTES", len(large) - 1)
    missing, small, *too_large = scanned(tmp_path, images)
    assert "No such file" in missing
    assert isinstance(small, ReadableFile)
    assert too_large == ["more than 0 MiB"] * 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(image_files, tmp_path):
    images = write(tmp_path, photos(image_files, 1))
    (tmp_path / "000.png").chmod(0)
    assert "Permission denied" in scanned(tmp_path, images)[0]


def test_where_header_and_pixels_disagree_the_file_is_not_plain(image_files, tmp_path):
    images = write(tmp_path, photos(image_files, 1))
    (result,) = scan(os.fsencode(tmp_path), images, Readers(CountingDecode(), lambda _: (7, 9, True)))
    assert (result.width, result.height, result.plain) == (9, 7, False)


def test_many_files_keep_their_order_over_chunks_and_threads(image_files, tmp_path):
    images = write(tmp_path, photos(image_files, 150))
    decode, heard = CountingDecode(), []
    results = scanned(tmp_path, images, decode, threads=3, progress=lambda *place: heard.append(place))
    hashes = [hashlib.blake2b((tmp_path / os.fsdecode(i.relative_path)).read_bytes(), digest_size=16) for i in images]
    assert [result.content for result in results] == [digest.hexdigest() for digest in hashes]
    assert threading.get_ident() not in decode.threads
    assert heard == [(64, 150), (128, 150), (150, 150)]


def test_the_probe_sees_plain_readable_files_and_has_the_last_word(image_files, tmp_path):
    files = photos(image_files, 70) | {
        "palette.png": image_files.encode(image_files.photo(8, 9), "PNG", mode="P"),
        "text.png": b"text",
    }
    images = write(tmp_path, files)
    bad, seen = files["065.png"], []

    def probe(batch):
        seen.extend(batch)
        return ["the decoder says no" if data == bad else (9, 7) for data in batch]

    results = scanned(tmp_path, images, probe=probe)
    assert seen == list(photos(image_files, 70).values())
    assert results[65] == "the decoder says no"
    assert isinstance(results[71], str)
    assert all(isinstance(result, ReadableFile) for result in [*results[:65], *results[66:71]])


def test_a_probe_that_answers_for_too_few_is_an_error(image_files, tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        scanned(tmp_path, write(tmp_path, photos(image_files, 3)), probe=lambda batch: [(9, 7)] * (len(batch) - 1))


def test_each_file_is_decoded_once_where_one_decoding_tells_enough(image_files, tmp_path):
    photo, damaged = image_files.photo(9, 7), image_files.damaged()
    whole = image_files.encode(photo, "JPEG")
    files = {
        "once.jpg": whole,
        "once.png": image_files.encode(photo, "PNG"),
        "twice.bmp": image_files.encode(photo, "BMP"),
        "twice, for a marker that only decoders understand.jpg": whole[:-2] + b"\xff\xff\xd9",
        "by the reference.png": image_files.encode(photo, "PNG", mode="P"),
        "refused.png": damaged["half a PNG"],
    }
    images, seen = write(tmp_path, files), []

    def probe(batch):
        seen.extend(batch)
        return [(9, 7)] * len(batch)

    *results, refused = scanned(tmp_path, images, decode := CountingDecode(), probe=probe)
    assert seen == list(files.values())[:4]
    assert decode.calls == 4
    assert [result.plain for result in results] == [True, True, True, True, False]
    assert isinstance(refused, str)
    assert results == scanned(tmp_path, images)[:-1], "as if the reference had decoded them all"


def test_what_the_probe_refuses_gets_the_references_reason_where_it_has_one(image_files, tmp_path):
    def decode(_):
        raise ValueError("the reference says no")

    images = write(tmp_path, {"a.jpg": image_files.encode(image_files.photo(9, 7), "JPEG")})
    assert scanned(tmp_path, images, decode, probe=lambda _: ["the probe says no"]) == ["the reference says no"]
    assert scanned(tmp_path, images, probe=lambda _: ["the probe says no"]) == ["the probe says no"]


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_where_header_and_probe_disagree_the_reference_decides_and_the_file_is_not_plain(image_files, tmp_path, kind):
    images = write(tmp_path, {"a": image_files.encode(image_files.photo(9, 7), kind)})
    (result,) = scanned(tmp_path, images, decode := CountingDecode(), probe=lambda _: [(7, 9)])
    assert (result.width, result.height, result.plain) == (9, 7, False)
    assert decode.calls == 1


def test_a_second_scan_reads_only_what_has_changed(image_files, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    cache = ScanCache(tmp_path / "cache" / "scan.json")
    files = photos(image_files, 5) | {"half.png": image_files.damaged()["half a PNG"]}
    first = scanned(folder, write(folder, files), decode := CountingDecode(), cache=cache)
    assert decode.calls == 6

    again = scanned(folder, listed(folder, *files), decode := CountingDecode(), cache=cache)
    assert again == first
    assert decode.calls == 1, "an unreadable file is looked at every time"

    (folder / "002.png").write_bytes(image_files.encode(image_files.photo(30, 20), "PNG"))
    os.utime(folder / "003.png", ns=(0, 12345))
    (folder / "half.png").write_bytes(files["000.png"])
    changed = scanned(folder, listed(folder, *files), decode := CountingDecode(), cache=cache)
    assert decode.calls == 3
    assert (changed[2].width, changed[2].height) == (30, 20)
    assert changed[3] == first[3]
    assert changed[5].content == first[0].content

    (folder / "000.png").unlink()
    left = list(files)[1:]
    assert scanned(folder, listed(folder, *left), decode := CountingDecode(), cache=cache) == changed[1:]
    assert decode.calls == 0


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"000.png": 1}',
        b'[["000.png", 1]]',
        b'[["000.png", 1, 2, "x", "9", 7, true]]',
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_cache_is_ignored_and_replaced(image_files, tmp_path, damage):
    cache = ScanCache(tmp_path / "scan.json")
    images = write(tmp_path, photos(image_files, 2))
    cache.path.write_bytes(damage)
    expected = scanned(tmp_path, images)
    assert scanned(tmp_path, images, cache=cache) == expected
    assert scanned(tmp_path, images, decode := CountingDecode(), cache=cache) == expected
    assert decode.calls == 0


def test_a_cache_that_cannot_be_written_is_done_without(image_files, tmp_path):
    (tmp_path / "in the way").write_text("a file where the folder would be")
    images = write(tmp_path, photos(image_files, 2))
    cache = ScanCache(tmp_path / "in the way" / "scan.json")
    assert all(isinstance(result, ReadableFile) for result in scanned(tmp_path, images, cache=cache))
    assert cache.load() == {}


def test_an_interrupted_scan_keeps_what_it_has_read(image_files, tmp_path):
    cache = ScanCache(tmp_path / "scan.json")
    images = write(tmp_path, photos(image_files, 200))
    with pytest.raises(KeyboardInterrupt):
        scanned(tmp_path, images, cache=cache, progress=interrupt_after(100))
    decode = CountingDecode()
    results = scanned(tmp_path, images, decode, cache=cache)
    assert decode.calls == 200 - 128
    assert results == scanned(tmp_path, images)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".part-")] == []


def interrupt_after(count):
    def progress(done, _total):
        if done >= count:
            raise KeyboardInterrupt

    return progress


def test_scans_under_other_settings_do_not_share_a_cache(tmp_path):
    def place(root=b"/data", probe_name="", **changes):
        return ScanCache.of(DataConfig(cache_dir=str(tmp_path), **changes), root, probe_name).path

    paths = [
        place(),
        place(root=b"/other"),
        place(probe_name="dali"),
        place(bit_depth=12),
        place(max_pixels=5),
        place(root=b"/\xff"),
    ]
    assert len(set(paths)) == len(paths)
    assert all(path.parent == tmp_path / "scan" for path in paths)
    assert place(image_size=64, val_fraction=0.5) == place()


def test_the_cache_is_in_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert ScanCache.of(DataConfig(), b"/data", "").path.parent == tmp_path / "xdg" / "resnet-dist" / "scan"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ScanCache.of(DataConfig(), b"/data", "").path.parent == Path(tmp_path, ".cache", "resnet-dist", "scan")


def test_the_cache_takes_any_name(tmp_path):
    cache = ScanCache(tmp_path / "scan.json")
    files = {("a \"'\\\\ \\xff\n\u2028é.png", 5, 2**63): ReadableFile("00", 1, 2, False)}
    cache.save(files)
    assert cache.load() == files
    assert isinstance(json.loads(cache.path.read_bytes()), list)


def test_decoded_shapes_are_what_counts(tmp_path):
    (tmp_path / "a.png").write_bytes(b"anything")
    (result,) = scan(
        os.fsencode(tmp_path),
        listed(tmp_path, "a.png"),
        Readers(lambda _: np.zeros((3, 5, 3), dtype=np.uint8), lambda _: (5, 3, True)),
    )
    assert (result.width, result.height, result.plain) == (5, 3, True)


class Seen:
    """What a scan shows."""

    def __init__(self):
        self.shown = {}
        self.threads = set()
        self.lock = threading.Lock()

    def __call__(self, row, data, pixels):
        with self.lock:
            self.shown.setdefault(row, []).append((data, pixels.copy()))
            self.threads.add(threading.get_ident())

    @property
    def times(self):
        return {row: len(shown) for row, shown in sorted(self.shown.items())}


def shown(folder, images, see, probe=None, **options):
    return scan(os.fsencode(folder), images, Readers(CountingDecode(), HEADER, probe, see), **options)


def showing(size=(9, 7), refused=()):
    """A probe that shows each file as the reference decodes it, in one buffer that it uses again and again."""
    buffer = np.empty((7, 9, 3), np.uint8)

    def probe(batch, show=None):
        for place, data in enumerate(batch):
            if data not in refused:
                np.copyto(buffer, CountingDecode()(data))
                if show:
                    show(place, buffer)
        buffer[:] = 0
        return ["refused" if data in refused else size for data in batch]

    return probe


def test_every_image_that_decodes_is_shown_once(image_files, tmp_path):
    files = photos(image_files, 70) | {"half.png": image_files.damaged()["half a PNG"], "z.txt.png": b"text"}
    images = write(tmp_path, files)
    see = Seen()
    results = shown(tmp_path, images, see, threads=3)
    assert see.times == dict.fromkeys(range(70), 1)
    for row, ((data, pixels),) in see.shown.items():
        assert data == files[f"{row:03d}.png"]
        assert np.array_equal(pixels, image_files.photo(9, 7, seed=row))
    assert threading.get_ident() not in see.threads
    assert results == scanned(tmp_path, images), "to be seen changes nothing"


def test_what_the_probe_decodes_is_shown_once_from_the_pools_threads(image_files, tmp_path):
    photo = image_files.photo(9, 7)
    files = photos(image_files, 70) | {
        "by both.bmp": image_files.encode(photo, "BMP"),
        "by the reference.png": image_files.encode(photo, "PNG", mode="P"),
        "text.png": b"text",
    }
    images = write(tmp_path, files)
    see = Seen()
    results = shown(tmp_path, images, see, showing(), threads=2)
    assert see.times == dict.fromkeys(range(72), 1)
    for row, (name, data) in enumerate([*files.items()][:72]):
        assert see.shown[row][0][0] == data
        assert np.array_equal(see.shown[row][0][1], CountingDecode()(data)), name
    assert threading.get_ident() not in see.threads
    assert results == scanned(tmp_path, images, probe=showing())


def test_where_the_reference_corrects_the_probe_its_pixels_are_shown_last(image_files, tmp_path):
    files = photos(image_files, 5)
    images = write(tmp_path, files)

    def probe(batch, show):
        for place in range(len(batch)):
            show(place, np.full((9, 7, 3), place, np.uint8))
        return [(7, 9)] * len(batch)

    results = shown(tmp_path, images, see := Seen(), probe, threads=3)
    assert see.times == dict.fromkeys(range(5), 2)
    for row, ((_, first), (data, last)) in see.shown.items():
        assert (first == row).all()
        assert data == files[f"{row:03d}.png"]
        assert np.array_equal(last, image_files.photo(9, 7, seed=row))
    assert [result.plain for result in results] == [False] * 5


def test_what_the_probe_refuses_is_shown_as_the_reference_decodes_it(image_files, tmp_path):
    files = photos(image_files, 3)
    images = write(tmp_path, files)
    results = shown(tmp_path, images, see := Seen(), showing(refused=[files["001.png"]]))
    assert results[1] == "refused"
    assert see.times == {0: 1, 1: 1, 2: 1}
    assert np.array_equal(see.shown[1][0][1], image_files.photo(9, 7, seed=1))


def test_a_file_that_both_decode_is_shown_by_the_reference(image_files, tmp_path):
    images = write(tmp_path, {"a.bmp": image_files.encode(image_files.photo(9, 7), "BMP")})

    def probe(batch, show):
        for place in range(len(batch)):
            show(place, np.zeros((7, 9, 3), np.uint8))
        return [(9, 7)] * len(batch)

    shown(tmp_path, images, see := Seen(), probe)
    assert see.times == {0: 1}
    assert np.array_equal(see.shown[0][0][1], image_files.photo(9, 7))


@pytest.mark.parametrize("probe", [None, showing()])
def test_what_is_remembered_is_not_shown(image_files, tmp_path, probe):
    folder = tmp_path / "images"
    folder.mkdir()
    cache = ScanCache(tmp_path / "cache" / "scan.json")
    files = photos(image_files, 5)
    shown(folder, write(folder, files), see := Seen(), probe, cache=cache)
    assert see.times == dict.fromkeys(range(5), 1)
    os.utime(folder / "003.png", ns=(0, 12345))
    shown(folder, listed(folder, *files), see := Seen(), probe, cache=cache)
    assert see.times == {3: 1}


@pytest.mark.parametrize("probe", [None, showing()])
def test_who_sees_may_fail_and_the_scan_fails_with_it(image_files, tmp_path, probe):
    def see(row, _data, _pixels):
        if row == 2:
            raise RuntimeError("no room for what was seen")

    with pytest.raises(RuntimeError, match="no room"):
        shown(tmp_path, write(tmp_path, photos(image_files, 5)), see, probe, threads=2)


def test_the_probe_is_not_asked_to_show_where_nobody_sees(image_files, tmp_path):
    def probe(batch, show="nobody"):
        assert show == "nobody"
        return [(9, 7)] * len(batch)

    assert len(scanned(tmp_path, write(tmp_path, photos(image_files, 3)), probe=probe)) == 3
