"""Whatever bytes an image file has, it is an image within bounds or unreadable."""

import struct
import warnings
import zlib
from functools import cache
from typing import Any

import numpy as np
import pytest

from resnet_dist.runtime.errors import UnreadableImageError
from resnet_dist.runtime.image_file import decode_rgb, image_header
from tests.fuzzing import bounded_memory, cases, damaged, fuzz

MAX_PIXELS = 1_000_000
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_deflate"}),
    ("TIFF", {"compression": "jpeg"}),
    ("TIFF", {"compression": "packbits"}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("BMP", {}),
    ("PPM", {}),
    ("GIF", {}),
)
WORDS = (
    *(b"\xff\xd8\xff\xda", b"\xff\xc4", b"\xff\xc0", b"\xff\xd9", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", bytes(4)),
    *(
        b"IHDR",
        b"IDAT",
        b"iCCP",
        b"zTXt",
        b"acTL",
        b"PLTE",
        b"tRNS",
        b"eXIf",
        b"VP8X",
        b"VP8L",
        b"ALPH",
        b"ANIM",
        b"Exif",
    ),
    *(
        b"P3 9 9 255 ",
        b"P6 99999 99999 255\n",
        b"P5 9 9 65535\n",
        b"P4 1 1\n",
        b"#\n",
        b"99999999999999999999",
        b"GIF89a",
    ),
    *(b"II*\0", b"MM\0*", b"BM", b"RIFF", b"\x89PNG\r\n\x1a\n", b"\x42\x01\x04\x00", b"\x44\x01", b"\x00\x01\x00\x00"),
)


@pytest.fixture
def make(image_files: Any) -> Any:
    """Makes the damaged file of a case, by its random numbers."""

    @cache
    def whole(number: int) -> bytes:
        if number < len(KINDS):
            kind, options = KINDS[number]
            return image_files.encode(image_files.photo(19, 13), kind, **options)
        deep = np.random.default_rng(0).integers(0, 65536, (7, 9, 4), dtype=np.uint16)
        return [
            lambda: image_files.png(deep[:, :, :3], 16, 2),
            lambda: image_files.png(deep, 16, 6),
            lambda: image_files.tiff16(deep[:, :, :3], deflated=True),
            lambda: image_files.turned(image_files.photo(9, 7), "JPEG", 6),
            lambda: image_files.encode(image_files.photo(9, 7), "PNG", mode="P"),
            lambda: image_files.encode(image_files.photo(9, 7), "JPEG", mode="CMYK"),
            lambda: image_files.bmp_rle(image_files.photo(9, 7, channels=1)),
        ][number - len(KINDS)]()

    return lambda chance: damaged(chance, whole(chance.randrange(len(KINDS) + 7)), WORDS)


def test_a_damaged_image_is_decoded_or_unreadable(make: Any):
    def read(data: bytes) -> None:
        pixels = decode_rgb(data, bit_depth=12, max_pixels=MAX_PIXELS)
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of some damaged tags
        numbers = cases(300, 25_000)
        good = fuzz("image", numbers, make, read, UnreadableImageError)
        assert 0 < good < len(numbers)
        read_header = lambda data: image_header(data, max_pixels=MAX_PIXELS)  # noqa: E731
        assert fuzz("header", cases(200, 15_000), make, read_header, UnreadableImageError) > 0


def tiled(tile: int, strips: bool) -> bytes:
    """A TIFF of 16 x 16 pixels that says its one tile, or strip, is a square of so many."""
    packed = zlib.compressobj(1)
    pixels = b"".join(packed.compress(bytes(3 * tile)) for _ in range(tile)) + packed.flush()
    extent = [(278, 4, tile)] if strips else [(322, 4, tile), (323, 4, tile)]
    places = (273, 279) if strips else (324, 325)
    side = tile if strips else 16
    entries = [(256, 4, side), (257, 4, 16), (259, 3, 8), (262, 3, 2), (277, 3, 3), (284, 3, 1), *extent]
    entries += [(258, 0, 0), (places[0], 4, 0), (places[1], 4, len(pixels))]
    after = 8 + 2 + 12 * len(entries) + 4
    body = b""
    for tag, kind, number in sorted(entries):
        if tag == 258:
            body += struct.pack("<HHII", tag, 3, 3, after)
        else:
            value = after + 8 if tag == places[0] else number
            body += struct.pack("<HHI", tag, kind, 1) + (
                struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value)
            )
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + struct.pack("<4H", 8, 8, 8, 0) + pixels


@pytest.mark.parametrize("tile", [16, 256])
def test_a_tile_that_is_little_larger_than_the_image_is_read(tile: int):
    assert decode_rgb(tiled(tile, strips=False), bit_depth=None, max_pixels=MAX_PIXELS).shape == (16, 16, 3)


def test_a_tile_that_is_larger_than_any_image_is_refused_before_it_is_unpacked():
    data = tiled(8000, strips=False)
    assert len(data) < 2**20
    with bounded_memory(2**27), pytest.raises(UnreadableImageError, match=r"8000x8000.*data.max_pixels"):
        decode_rgb(data, bit_depth=None, max_pixels=MAX_PIXELS)
