from collections import Counter

import numpy as np
import pytest

from data_pipeline.listing.completeness import is_complete
from data_pipeline.sources.dali_probe import probe
from resnet_dist.runtime.image_file import decode_rgb, image_header

KINDS = {
    "baseline": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "restarts": ("JPEG", {"restart_marker_blocks": 2}),
    "fine": ("JPEG", {"quality": 95, "optimize": True}),
    "grey": ("JPEG", {"mode": "L"}),
    "PNG": ("PNG", {}),
}


@pytest.fixture(params=KINDS)
def file(request, image_files):
    kind, options = KINDS[request.param]
    return image_files.encode(image_files.photo(64, 48), kind, **options)


def test_a_whole_file_is_complete_and_no_part_of_it_is(file):
    assert is_complete(file)
    assert not any(is_complete(file[:end]) for end in range(len(file)))


def test_what_follows_the_end_is_nobodys_concern(file):
    assert is_complete(file + b"\0 and more")


def test_of_other_formats_only_decoding_tells(image_files):
    for kind in ("BMP", "GIF", "TIFF", "WEBP", "PPM"):
        assert is_complete(image_files.encode(image_files.photo(20, 10), kind)) is None
    for data in image_files.damaged().values():
        assert not is_complete(data)


def test_a_png_with_any_bit_changed_is_not_complete(image_files):
    png = image_files.encode(image_files.photo(12, 9), "PNG")
    for place in range(len(png)):
        assert not is_complete(png[:place] + bytes([png[place] ^ 1]) + png[place + 1 :]), place


def test_a_marker_among_the_pixels_of_a_jpeg_is_seen(image_files):
    jpeg = image_files.encode(image_files.photo(64, 48), "JPEG")
    for marker in (0x3B, 0xF1, 0xC0, 0xE1):
        assert not is_complete(jpeg[:-20] + bytes([0xFF, marker]) + jpeg[-18:])


def test_a_png_with_a_chunk_behind_its_pixels_is_left_open(image_files):
    turned = image_files.encode(image_files.photo(20, 10), "PNG")
    comment = b"\0\0\0\0tEXt" + (0x8D7C8F6A).to_bytes(4, "big")
    end = turned.index(b"IEND") - 4
    assert not is_complete(turned[:end] + comment + turned[end:])


def test_the_reference_reads_each_complete_file_that_dali_reads(image_files):
    """The law that lets one decoding do: damaged at random, a file may split the decoders only if it is incomplete."""
    draw, cases, splits = np.random.default_rng(7), [], Counter()
    for kind, options in KINDS.values():
        whole = image_files.encode(image_files.photo(64, 48), kind, **options)
        for damage in range(120):
            at, length = int(draw.integers(2, len(whole) - 2)), int(draw.integers(1, 20))
            noise = draw.integers(0, 256, length, dtype=np.uint8).tobytes()
            kept = [whole[at + length :], whole[at:], whole[at + 2 * length :], b"\xff\xd9"][damage % 4]
            cases.append(whole[:at] + noise + kept)
    readable = [data for data in cases if header_of(data)]
    for data, verdict in zip(readable, probe(readable), strict=True):
        if isinstance(verdict, tuple):
            split = (is_complete(data), reference_size(data) == verdict)
            splits[split] += 1
    assert splits[True, True] > 100
    assert splits[True, False] == 0
    assert splits[False, False] > 0, "without a case that splits them, the law says nothing"


def header_of(data):
    try:
        width, height, plain = image_header(data, max_pixels=10**5)
    except ValueError:
        return None
    return (width, height) if plain else None


def reference_size(data):
    try:
        height, width, _ = decode_rgb(data, bit_depth=None, max_pixels=10**5).shape
    except ValueError:
        return None
    return width, height
