"""Whether all bytes of an image file are there and in order, without decoding it.

Decoders differ on files that were cut off or damaged: one refuses what another fills up with grey. On a complete file
they agree, so what one of them has decoded need not be decoded by the other.
"""

import re
import zlib

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
"""The next marker behind coded pixels, in which 0xff is followed by 0 or is a restart marker."""
_JPEG_SCAN = 0xDA
_JPEG_BETWEEN_SCANS = (0xC4, _JPEG_SCAN, 0xDD)
"""Huffman tables, another scan, a restart interval."""
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS, _PNG_END = b"IDAT", b"IEND"


def is_complete(data: bytes) -> bool | None:
    """True for a JPEG whose segments follow each other up to its end marker, and for a PNG whose chunks all fit their
    checksums up to its end; False for other JPEGs and PNGs. None for other formats, which only decoding can check.

    False, too, for a PNG with chunks behind its pixels: they may hold an orientation that its header lacks.
    """
    if data.startswith(_JPEG_START):
        return _is_complete_jpeg(data)
    if data.startswith(_PNG_START):
        return _is_complete_png(memoryview(data)[len(_PNG_START) :])
    return None


def _is_complete_jpeg(data: bytes) -> bool:
    """Each segment is 0xff, its marker, its length including these two bytes, and its content; pixels follow a scan.

    What follows the end marker is not read by anyone.
    """
    place, scans = 2, 0
    while not (scans and data.startswith(_JPEG_END, place)):
        if place + 4 > len(data) or data[place] != 0xFF:
            return False
        marker = data[place + 1]
        if scans and marker not in _JPEG_BETWEEN_SCANS:
            return False
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == _JPEG_SCAN:
            scans += 1
            following = _JPEG_MARKER.search(data, place)
            if following is None:
                return False
            place = following.start()
    return True


def _is_complete_png(chunks: memoryview) -> bool:
    """Each chunk is its length, its kind, so many bytes, and the CRC-32 of kind and bytes."""
    pixels = False
    while len(chunks) >= 12:
        length, kind = int.from_bytes(chunks[:4], "big"), bytes(chunks[4:8])
        checksum = chunks[8 + length : 12 + length]
        if len(checksum) < 4 or zlib.crc32(chunks[4 : 8 + length]) != int.from_bytes(checksum, "big"):
            return False
        if kind == _PNG_END:
            return pixels
        if pixels and kind != _PNG_PIXELS:
            return False
        pixels = kind == _PNG_PIXELS
        chunks = chunks[12 + length :]
    return False
